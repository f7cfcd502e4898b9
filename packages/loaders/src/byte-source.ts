import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { LongctxError } from "@longctx/core";

/** One read of the operating system takes less than 2^31 bytes. */
const MAX_READ = 2 ** 30;

/** A file of known size, read in places. Opening it costs a file descriptor and nothing else. */
export class ByteSource {
  readonly path: string;
  readonly size: number;
  #descriptor: number | null;

  /** @throws LongctxError "file" when there is no such file */
  constructor(path: string) {
    this.path = path;
    this.#descriptor = openFile(path);
    const stat = fstatSync(this.#descriptor);
    if (!stat.isFile()) {
      this.close();
      throw new LongctxError(
        "file",
        `${path} is not a file. Give the path of a .gguf or .safetensors file, or of a model folder.`,
      );
    }
    this.size = stat.size;
  }

  /** `length` bytes from `offset`, owned by the caller. @throws LongctxError "file" beyond the end or after `close` */
  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    this.#check(offset, length);
    const bytes = allocated(this.path, () => new Uint8Array(length));
    this.readInto(bytes, offset);
    return bytes;
  }

  readInto(target: Uint8Array, offset: number): void {
    const descriptor = this.#check(offset, target.length);
    for (let done = 0; done < target.length;) {
      const count = readSync(descriptor, target, done, Math.min(MAX_READ, target.length - done), offset + done);
      if (count === 0)
        throw new LongctxError(
          "file",
          `${this.path} became shorter than ${this.size} bytes while it was open. Download or copy it again.`,
        );
      done += count;
    }
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #check(offset: number, length: number): number {
    if (this.#descriptor === null)
      throw new LongctxError(
        "file",
        `${this.path} was closed; its tensors can no longer be read. Open the checkpoint again.`,
      );
    if (offset + length > this.size) {
      throw new LongctxError(
        "file",
        `${this.path} has ${this.size} bytes, but bytes ${offset} to ${offset + length} were asked for. Is the file cut off?`,
      );
    }
    return this.#descriptor;
  }
}

/** The honest tensors of a large model may still be too large for one array. @throws LongctxError "capacity" */
export function allocated<T>(what: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new LongctxError("capacity", `${what} does not fit into memory in one piece (${cause.message}).`, { cause });
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === "ENOENT"
        ? "does not exist"
        : `cannot be opened (${(cause as Error).message})`;
    throw new LongctxError("file", `${path} ${reason}.`, { cause });
  }
}
