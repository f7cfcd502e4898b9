import { LongctxError } from "@longctx/core";
import type { ByteSource } from "../common/byte-source.ts";

/** The value types of GGUF metadata; a type's index is its code in the file. */
const GGUF_VALUE_TYPES = [
  "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64", "float64",
] as const; // prettier-ignore
type GgufValueType = (typeof GGUF_VALUE_TYPES)[number];

/**
 * An array of metadata: a typed array for numbers other than 64-bit integers; those are bigints beyond 2^53, else
 * numbers.
 */
export type GgufArray =
  | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array
  | readonly string[] | readonly boolean[] | readonly (number | bigint)[] | readonly GgufArray[]; // prettier-ignore

/** One value of GGUF metadata; a 64-bit integer beyond 2^53 is a bigint, every other number a number. */
export type GgufValue = number | bigint | boolean | string | GgufArray;

/** The values of a GGUF header by key, such as `llama.context_length`. */
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** Limits far above what real files have: headers below 50 MB, vocabularies with merges of a few million entries. */
const MAX_HEADER_BYTES = 2 ** 28;
const MAX_ARRAY_ITEMS = 2 ** 23;
const MAX_ARRAY_DEPTH = 4;
/**
 * Limits of what takes more memory than bytes in the file: an empty array takes 12 bytes there, a text its characters.
 */
const MAX_NESTED_ARRAYS = 2 ** 16;
const MAX_STRING_BYTES = 2 ** 26;
const FIRST_CHUNK = 2 ** 16;
const LARGEST_CHUNK = 2 ** 23;

/** A decoder that keeps the byte order mark, which may be a token. */
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** The least number of bytes that a value of each type takes in the file. */
const VALUE_BYTES: Readonly<Record<GgufValueType, number>> = {
  uint8: 1, int8: 1, uint16: 2, int16: 2, uint32: 4, int32: 4, float32: 4, bool: 1, string: 8, array: 12, uint64: 8, int64: 8, float64: 8,
}; // prettier-ignore

/**
 * Reads a GGUF header from front to end in growing chunks, and checks every length against the bytes left in the file.
 */
export class GgufReader {
  readonly #source: ByteSource;
  readonly #end: number;
  #chunk: Uint8Array<ArrayBuffer> = new Uint8Array();
  #view: DataView = new DataView(this.#chunk.buffer);
  #chunkStart = 0;
  #chunkSize = FIRST_CHUNK;
  #at = 0;
  #itemsLeft = MAX_ARRAY_ITEMS;

  constructor(source: ByteSource) {
    this.#source = source;
    this.#end = Math.min(source.size, MAX_HEADER_BYTES);
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#chunkStart + this.#at;
  }

  get remaining(): number {
    return this.#end - this.position;
  }

  uint32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getUint32(at, true);
  }

  uint64(what: string): bigint {
    const at = this.#take(8, what);
    return this.#view.getBigUint64(at, true);
  }

  /** Reads the count of items that take at least `bytesEach` bytes each in the header. */
  count(what: string, bytesEach: number): number {
    const count = this.uint64(what);
    if (count > BigInt(Math.floor(this.remaining / bytesEach)))
      this.fail(`announces ${count} ${what}, more than its ${this.#source.size} bytes can hold`);
    return Number(count);
  }

  string(what: string): string {
    const length = this.count(`bytes of ${what}`, 1);
    if (length > MAX_STRING_BYTES) this.fail(`has a text of ${length} bytes as ${what}, more than ${MAX_STRING_BYTES}`);
    const at = this.#take(length, what);
    return UTF8.decode(this.#chunk.subarray(at, at + length));
  }

  value(key: string): GgufValue {
    return this.#value(this.#valueType(key), key, 0);
  }

  fail(problem: string): never {
    throw new LongctxError("file", `${this.#source.path} ${problem}. It is damaged or cut off; download it again.`);
  }

  #valueType(key: string): GgufValueType {
    const code = this.uint32(`the type of ${key}`);
    return GGUF_VALUE_TYPES[code] ?? this.fail(`gives ${key} the unknown value type ${code}`);
  }

  #value(type: GgufValueType, key: string, depth: number): GgufValue {
    if (type === "string") return this.string(key);
    if (type === "array") return this.#array(key, depth);
    const at = this.#take(VALUE_BYTES[type], key);
    return SCALARS[type](this.#view, at);
  }

  #array(key: string, depth: number): GgufArray {
    if (depth === MAX_ARRAY_DEPTH) this.fail(`nests the arrays of ${key} more than ${MAX_ARRAY_DEPTH} deep`);
    const type = this.#valueType(key);
    const length = this.count(`items of ${key}`, VALUE_BYTES[type]);
    if (length > this.#itemsLeft)
      this.fail(`has more than ${MAX_ARRAY_ITEMS} array items in its metadata, with ${key}`);
    if (type === "array" && length > MAX_NESTED_ARRAYS)
      this.fail(`has ${length} arrays in ${key}, more than ${MAX_NESTED_ARRAYS}`);
    this.#itemsLeft -= length;
    const typed = TYPED_ARRAYS[type];
    if (typed) {
      const at = this.#take(length * VALUE_BYTES[type], key);
      // A copy, because a typed array needs an aligned offset, and a view would keep the whole chunk in memory.
      return new typed(new Uint8Array(this.#chunk.subarray(at, at + length * VALUE_BYTES[type])).buffer);
    }
    const items: GgufValue[] = [];
    for (let i = 0; i < length; i++) items.push(this.#value(type, key, depth + 1));
    return items as GgufArray;
  }

  /** Reads the next `length` bytes if need be, passes over them, and returns their offset in the chunk. */
  #take(length: number, what: string): number {
    if (length > this.remaining) this.fail(`ends in the middle of ${what}`);
    if (this.#at + length > this.#chunk.length) {
      const size = Math.min(Math.max(length, this.#chunkSize), this.remaining);
      const bytes = this.#source.read(this.position, size);
      this.#chunkStart = this.position;
      this.#at = 0;
      this.#chunk = bytes;
      this.#view = new DataView(bytes.buffer);
      this.#chunkSize = Math.min(2 * this.#chunkSize, LARGEST_CHUNK);
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

type Scalar = Exclude<GgufValueType, "string" | "array">;

const SCALARS: Readonly<Record<Scalar, (view: DataView, at: number) => GgufValue>> = {
  uint8: (view, at) => view.getUint8(at),
  int8: (view, at) => view.getInt8(at),
  uint16: (view, at) => view.getUint16(at, true),
  int16: (view, at) => view.getInt16(at, true),
  uint32: (view, at) => view.getUint32(at, true),
  int32: (view, at) => view.getInt32(at, true),
  float32: (view, at) => view.getFloat32(at, true),
  float64: (view, at) => view.getFloat64(at, true),
  bool: (view, at) => view.getUint8(at) !== 0,
  uint64: (view, at) => narrowed(view.getBigUint64(at, true)),
  int64: (view, at) => narrowed(view.getBigInt64(at, true)),
};

const TYPED_ARRAYS: Partial<Record<GgufValueType, new (bytes: ArrayBuffer) => GgufArray>> = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  float64: Float64Array,
};

function narrowed(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
