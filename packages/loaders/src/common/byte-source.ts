import { LongctxError } from "@longctx/core";

/** Bytes of known size, read in places: a file on disk, or one that a page was given. */
export interface ByteSource {
  /** The place, for messages. */
  readonly path: string;
  readonly size: number;
  /** `length` bytes from `offset`, owned by the caller. @throws LongctxError "file" beyond the end or after `close` */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  readInto(target: Uint8Array, offset: number): void;
  close(): void;
}

/** What every source does alike: it checks places before it reads. */
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

  /** The bytes of a place inside the source. */
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

/** The honest tensors of a large model may still be too large for one array. @throws LongctxError "capacity" */
export function allocated<T>(what: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new LongctxError("capacity", `${what} does not fit into memory in one piece (${cause.message}).`, { cause });
  }
}
