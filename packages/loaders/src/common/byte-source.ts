import { LongctxError } from "@longctx/core";

/** A file of known size with random access: on disk, or a Blob in a page. */
export interface ByteSource {
  /** The file's path or name, for messages. */
  readonly path: string;
  readonly size: number;
  /** `length` bytes from `offset`, a new array. @throws LongctxError "file" beyond the end or after `close` */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  readInto(target: Uint8Array, offset: number): void;
  close(): void;
}

/** The base of all byte sources: it checks that a read lies within the file, and that the file is open. */
export abstract class CheckedSource implements ByteSource {
  readonly path: string;
  readonly size: number;
  #closed = false;

  constructor(path: string, size: number) {
    this.path = path;
    this.size = size;
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    this.#check(offset, length);
    const bytes = allocated(this.path, () => new Uint8Array(length));
    this.fill(bytes, offset);
    return bytes;
  }

  readInto(target: Uint8Array, offset: number): void {
    this.#check(offset, target.length);
    this.fill(target, offset);
  }

  close(): void {
    if (!this.#closed) this.release();
    this.#closed = true;
  }

  /** Reads `target.length` bytes from `offset`, which lie within the file. */
  protected abstract fill(target: Uint8Array, offset: number): void;
  protected abstract release(): void;

  #check(offset: number, length: number): void {
    if (this.#closed)
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
  }
}

/**
 * Runs an allocation; a correct file of a large model may hold a tensor too large for one array.
 * @throws LongctxError "capacity"
 */
export function allocated<T>(what: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new LongctxError("capacity", `${what} does not fit into memory in one piece (${cause.message}).`, { cause });
  }
}
