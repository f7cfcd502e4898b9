import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { LongctxError } from "../../common/errors.ts";

/** Numbers of rows as they are stored: float32, or half-precision numbers by their bits. */
export type Codes = Float32Array | Uint16Array;

/** The makers of both kinds of codes. */
export type CodesType = typeof Float32Array | typeof Uint16Array;

/** A block of numbers in a place; `users` stores share it, and only a store that has it for itself writes to it. */
export interface RowBlock {
  users: number;
  /** The numbers, where they are in memory. */
  readonly codes: Codes | null;
  /** The byte in the file at which the block begins. */
  readonly offset: number;
  readonly bytes: number;
}

/** Where far rows are kept: in memory or in a file. Stores, also those of several layers, share a place. */
export interface RowPlace {
  readonly kind: "memory" | "disk";
  /** @throws LongctxError "capacity" */
  allocate(type: CodesType, numbers: number): RowBlock;
  free(block: RowBlock): void;
  /** Writes codes from number `at` of the block on. @throws LongctxError "capacity" where the disk is full */
  write(block: RowBlock, at: number, codes: Codes): void;
  /** Returns `count` numbers of the block from `at` on, valid until the next call. @throws LongctxError "file" */
  read(type: CodesType, block: RowBlock, at: number, count: number): Codes;
  /** Declares a store that uses the place; `release` takes it back, and the last one closes the place. */
  retain(): void;
  release(): void;
}

/** The host's memory, outside of the buffers that kernels read. */
export const MEMORY: RowPlace = {
  kind: "memory",
  allocate(type, numbers) {
    const bytes = numbers * type.BYTES_PER_ELEMENT;
    try {
      return { users: 1, codes: new type(numbers), offset: 0, bytes };
    } catch (cause) {
      throw new LongctxError(
        "capacity",
        `There is no memory for another ${bytes} bytes of far keys and values; name a folder for them, or give a shorter text.`,
        { cause },
      );
    }
  },
  free: () => undefined,
  write: ({ codes }, at, rows) => codes!.set(rows, at),
  read: (_, { codes }, at, count) => codes!.subarray(at, at + count),
  retain: () => undefined,
  release: () => undefined,
};

/**
 * A file in a folder, read and written by position. Its name is removed as soon as it is open, so that the system frees
 * the room however the process ends; where a system refuses that, it is removed when the last store is disposed of.
 */
export class RowFile implements RowPlace {
  readonly kind = "disk";
  readonly #folder: string;
  readonly #own: string;
  readonly #file: number;
  #end = 0;
  #users = 0;
  /** Blocks nobody uses any more, by their bytes. */
  readonly #free = new Map<number, number[]>();
  #scratch = new ArrayBuffer(0);

  /** @throws LongctxError "capacity" where nothing can be written in the folder */
  constructor(folder: string) {
    this.#folder = folder;
    try {
      mkdirSync(folder, { recursive: true });
      this.#own = mkdtempSync(join(folder, "longctx-rows-"));
      this.#file = openSync(join(this.#own, "rows"), "wx+", 0o600);
    } catch (cause) {
      throw this.#noRoom(cause);
    }
    this.#remove();
  }

  allocate(type: CodesType, numbers: number): RowBlock {
    const bytes = numbers * type.BYTES_PER_ELEMENT;
    const offset = this.#free.get(bytes)?.pop() ?? this.#end;
    if (offset === this.#end) this.#end += bytes;
    return { users: 1, codes: null, offset, bytes };
  }

  free({ bytes, offset }: RowBlock): void {
    const others = this.#free.get(bytes);
    if (others) others.push(offset);
    else this.#free.set(bytes, [offset]);
  }

  write({ offset }: RowBlock, at: number, codes: Codes): void {
    const bytes = new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength);
    const begin = offset + at * codes.BYTES_PER_ELEMENT;
    try {
      for (let done = 0; done < bytes.length;)
        done += writeSync(this.#file, bytes, done, bytes.length - done, begin + done);
    } catch (cause) {
      throw this.#noRoom(cause);
    }
  }

  read(type: CodesType, { offset }: RowBlock, at: number, count: number): Codes {
    const size = count * type.BYTES_PER_ELEMENT;
    if (this.#scratch.byteLength < size) this.#scratch = new ArrayBuffer(size);
    const begin = offset + at * type.BYTES_PER_ELEMENT;
    for (let done = 0; done < size;) {
      const read = readSync(this.#file, new Uint8Array(this.#scratch, done, size - done), 0, size - done, begin + done);
      if (read === 0)
        throw new LongctxError(
          "file",
          `The file of far keys and values in ${this.#folder} ends at byte ${begin + done}; something cut it off, so read the text again.`,
        );
      done += read;
    }
    return new type(this.#scratch, 0, count);
  }

  retain(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users > 0) return;
    closeSync(this.#file);
    this.#remove();
  }

  #remove(): void {
    try {
      rmSync(this.#own, { recursive: true, force: true });
    } catch {
      // Windows keeps the name of an open file.
    }
  }

  #noRoom(cause: unknown): LongctxError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new LongctxError(
      "capacity",
      `Far keys and values could not be written in ${this.#folder} (${reason}); free room there, or name another folder. What was read so far is unharmed.`,
      { cause },
    );
  }
}
