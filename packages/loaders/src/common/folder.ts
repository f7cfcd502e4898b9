import { LongctxError, type ErrorCode } from "@longctx/core";
import type { ByteSource } from "./byte-source.ts";

/** Files side by side: a folder on disk, or what a page was given. */
export interface Folder {
  /** The place, for messages. */
  readonly path: string;
  readonly names: readonly string[];
  /** The place of one of its files, for messages. */
  placeOf(name: string): string;
  /** The caller closes it. @throws LongctxError "file" when there is no such file */
  open(name: string): Promise<ByteSource>;
}

/** A whole text file. @throws LongctxError "file" when it cannot be read, `code` when it is longer than `maxBytes` */
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
