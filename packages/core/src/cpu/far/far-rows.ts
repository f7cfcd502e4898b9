import { LongctxError } from "../../common/errors.ts";
import { fromHalves, toHalves } from "../wasm/halves.ts";
import { MEMORY, type Codes, type CodesType, type RowBlock, type RowPlace } from "./row-places.ts";

export interface FarRowsOptions {
  /** Rows are [K, D]. */
  readonly heads: number;
  readonly headSize: number;
  /** How numbers are stored; float16 rounds to the nearest half-precision number. */
  readonly precision: "float32" | "float16";
  /** The text index of the first row. */
  readonly first?: number;
  /** Where the rows are kept; in memory unless given. */
  readonly place?: RowPlace;
}

/** The bytes of a block; what is appended after a fork copies one block at most. */
const BLOCK_BYTES = 2 ** 18;

/** Returns the room that a forgotten store took in its place. */
const FORGOTTEN = new FinalizationRegistry<RowPlace>((place) => place.release());

/**
 * An append-only store of the keys or the values of one layer, a row [K, D] for each token, outside of the buffers that
 * kernels read. Rows are in blocks, so that nothing is copied as the store grows; forks share the blocks they have in
 * common.
 */
export class FarRows {
  /** The text index of the first row. */
  readonly first: number;
  readonly #options: FarRowsOptions;
  readonly #place: RowPlace;
  readonly #type: CodesType;
  readonly #width: number;
  readonly #rowsPerBlock: number;
  #blocks: RowBlock[] = [];
  #length: number;
  #floats = new Float32Array(0);

  constructor(options: FarRowsOptions) {
    const { heads, headSize, precision, first = 0, place = MEMORY } = options;
    this.#options = options;
    this.#place = place;
    this.#type = precision === "float32" ? Float32Array : Uint16Array;
    this.#width = heads * headSize;
    this.#rowsPerBlock = Math.max(1, Math.floor(BLOCK_BYTES / (this.#width * this.#type.BYTES_PER_ELEMENT)));
    this.first = first;
    this.#length = first;
    place.retain();
    FORGOTTEN.register(this, place, this);
  }

  /** The text index after the last row. */
  get length(): number {
    return this.#length;
  }

  /** The bytes of the blocks in memory and on disk; blocks that forks share count in each of them. */
  get bytes(): { readonly memory: number; readonly disk: number } {
    const all = this.#blocks.reduce((sum, { bytes }) => sum + bytes, 0);
    const memory = this.#place.kind === "memory" ? all : 0;
    return { memory: memory + this.#floats.byteLength, disk: all - memory };
  }

  /**
   * Appends rows [n, K, D] of the next tokens. @throws LongctxError "argument" for no whole rows, "capacity" without
   * memory or disk, which leaves the store as it was, so that the caller may try again
   */
  append(rows: Float32Array): void {
    if (rows.length % this.#width !== 0)
      throw new LongctxError("argument", `${rows.length} numbers are no rows of ${this.#width}; append whole rows.`);
    let codes: Codes = rows;
    if (this.#type === Uint16Array) {
      codes = new Uint16Array(rows.length);
      toHalves(rows, codes);
    }
    this.#append(codes);
  }

  /** Copies rows [first, first + count) to `into` [count, K, D]. @throws LongctxError "argument" for rows it has not */
  read(first: number, count: number, into: Float32Array): void {
    this.#check(first, count);
    for (let done = 0; done < count;) {
      const codes = this.#codes(first + done, count - done);
      this.#decode(codes, into.subarray(done * this.#width, done * this.#width + codes.length));
      done += codes.length / this.#width;
    }
  }

  /**
   * Returns rows [first, first + n) as floats [n, K, D], n at most `most` and as many as lie together, without a copy
   * where they are floats in memory. The array is valid until the next call, and is not written to.
   */
  view(first: number, most: number): Float32Array {
    this.#check(first, Math.min(most, 1));
    const codes = this.#codes(first, Math.min(most, this.#length - first));
    if (codes instanceof Float32Array) return codes;
    if (this.#floats.length < codes.length) this.#floats = new Float32Array(codes.length);
    const floats = this.#floats.subarray(0, codes.length);
    fromHalves(codes, floats);
    return floats;
  }

  /** Copies rows [first, first + count) to an array [count, D] for each head. @throws LongctxError as `read` */
  readHeads(first: number, count: number, heads: readonly Float32Array[]): void {
    const { headSize } = this.#options;
    this.#check(first, count);
    for (let done = 0; done < count;) {
      const rows = this.view(first + done, count - done);
      for (let head = 0; head < heads.length; head++) {
        let to = done * headSize;
        for (let at = head * headSize; at < rows.length; at += this.#width, to += headSize)
          heads[head].set(rows.subarray(at, at + headSize), to);
      }
      done += rows.length / this.#width;
    }
  }

  /**
   * Copies the rows of some tokens to `into`: [n, K, D], or [n, D] of one key head. Tokens that follow one another are
   * read at once. @throws LongctxError "argument" for rows it has not
   */
  gather(tokens: ArrayLike<number>, into: Float32Array, head?: number): void {
    const { headSize } = this.#options;
    if (head === undefined) {
      for (let i = 0; i < tokens.length;) {
        let run = 1;
        while (i + run < tokens.length && tokens[i + run] === tokens[i] + run) run++;
        this.read(tokens[i], run, into.subarray(i * this.#width, (i + run) * this.#width));
        i += run;
      }
      return;
    }
    for (let i = 0; i < tokens.length; i++) {
      this.#check(tokens[i], 1);
      const [block, at] = this.#placeOf(tokens[i]);
      const codes = this.#place.read(this.#type, block, at + head * headSize, headSize);
      this.#decode(codes, into.subarray(i * headSize, (i + 1) * headSize));
    }
  }

  /** Forgets all rows from token `length` on. */
  truncate(length: number): void {
    if (length < this.#length) this.#keep(Math.max(this.first, length));
  }

  fork(): FarRows {
    const copy = new FarRows(this.#options);
    for (const block of this.#blocks) block.users++;
    copy.#blocks = [...this.#blocks];
    copy.#length = this.#length;
    return copy;
  }

  /** Returns all rows as they are stored, [n, K, D]. */
  save(): Uint8Array {
    const bytes = new Uint8Array((this.#length - this.first) * this.#width * this.#type.BYTES_PER_ELEMENT);
    for (let token = this.first, at = 0; token < this.#length;) {
      const codes = this.#codes(token, this.#length - token);
      bytes.set(new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength), at);
      at += codes.byteLength;
      token += codes.length / this.#width;
    }
    return bytes;
  }

  /**
   * Appends rows that `save` returned, of a store with the same options. @throws LongctxError "file" for no whole rows,
   * "capacity"
   */
  restore(bytes: Uint8Array): void {
    const rowBytes = this.#width * this.#type.BYTES_PER_ELEMENT;
    if (bytes.byteLength % rowBytes !== 0)
      throw new LongctxError("file", "The saved far keys and values are damaged, or of another model; read the text again."); // prettier-ignore
    for (let at = 0, step = this.#rowsPerBlock * rowBytes; at < bytes.byteLength; at += step)
      this.#append(new this.#type(new Uint8Array(bytes.subarray(at, at + step)).buffer));
  }

  /** Gives the blocks back; the last store of a file closes it. */
  dispose(): void {
    this.truncate(this.first);
    this.#floats = new Float32Array(0);
    if (FORGOTTEN.unregister(this)) this.#place.release();
  }

  #append(codes: Codes): void {
    const width = this.#width;
    const before = this.#length;
    try {
      for (let done = 0; done < codes.length;) {
        const used = (this.#length - this.first) % this.#rowsPerBlock;
        const block = used === 0 ? this.#newBlock() : this.#ownBlock(used);
        const numbers = Math.min(codes.length - done, (this.#rowsPerBlock - used) * width);
        this.#place.write(block, used * width, codes.subarray(done, done + numbers));
        this.#length += numbers / width;
        done += numbers;
      }
    } catch (error) {
      this.#keep(before);
      throw error;
    }
  }

  /** Keeps the rows before token `length`, and gives up blocks that have none of them. */
  #keep(length: number): void {
    this.#length = length;
    const blocks = Math.ceil((length - this.first) / this.#rowsPerBlock);
    for (const block of this.#blocks.splice(blocks)) this.#leave(block);
  }

  #newBlock(): RowBlock {
    const block = this.#place.allocate(this.#type, this.#rowsPerBlock * this.#width);
    this.#blocks.push(block);
    return block;
  }

  /** The last block, of which `used` rows are used; it is copied where a fork shares it. */
  #ownBlock(used: number): RowBlock {
    const shared = this.#blocks[this.#blocks.length - 1];
    if (shared.users === 1) return shared;
    const block = this.#place.allocate(this.#type, this.#rowsPerBlock * this.#width);
    try {
      this.#place.write(block, 0, this.#place.read(this.#type, shared, 0, used * this.#width));
    } catch (error) {
      this.#place.free(block);
      throw error;
    }
    shared.users--;
    this.#blocks[this.#blocks.length - 1] = block;
    return block;
  }

  #leave(block: RowBlock): void {
    block.users--;
    if (block.users === 0) this.#place.free(block);
  }

  #placeOf(token: number): [RowBlock, number] {
    const row = token - this.first;
    return [this.#blocks[Math.floor(row / this.#rowsPerBlock)], (row % this.#rowsPerBlock) * this.#width];
  }

  /** Rows from `first` on, at most `most`, to the end of their block. */
  #codes(first: number, most: number): Codes {
    const [block, at] = this.#placeOf(first);
    return this.#place.read(this.#type, block, at, Math.min(most * this.#width, this.#rowsPerBlock * this.#width - at));
  }

  #decode(codes: Codes, into: Float32Array): void {
    if (codes instanceof Uint16Array) fromHalves(codes, into);
    else into.set(codes);
  }

  #check(first: number, count: number): void {
    if (first >= this.first && first + count <= this.#length) return;
    throw new LongctxError(
      "argument",
      `Tokens ${first} to ${first + count - 1} are not all among the far rows, which begin with ${this.first} and end before ${this.#length}.`,
    );
  }
}
