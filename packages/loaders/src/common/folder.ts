import { LongctxError, type ErrorCode } from "@longctx/core";
import type { ByteSource } from "./byte-source.ts";

/** The files of one checkpoint: a folder on disk, or the File objects that a page was given. */
export interface Folder {
  /** The folder's path or description, for messages. */
  readonly path: string;
  readonly names: readonly string[];
  /** The path of one of the files, for messages. */
  placeOf(name: string): string;
  /** Opens a file, which the caller closes. @throws LongctxError "file" when there is no such file */
  open(name: string): Promise<ByteSource>;
}

/** The text of a file. @throws LongctxError "file" when it cannot be read, `code` when it has more than `maxBytes` */
export async function readText(folder: Folder, name: string, maxBytes: number, code: ErrorCode): Promise<string> {
  const source = await folder.open(name);
  try {
    const { path, size } = source;
    if (size > maxBytes)
      throw new LongctxError(code, `${path} has ${size} bytes, but such a file has at most ${maxBytes}.`);
    return new TextDecoder().decode(source.read(0, size));
  } finally {
    source.close();
  }
}
