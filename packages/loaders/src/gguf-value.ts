/** The value types of GGUF metadata, by their code in the file. */
export const GGUF_VALUE_TYPES = [
  "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64", "float64",
] as const; // prettier-ignore
export type GgufValueType = (typeof GGUF_VALUE_TYPES)[number];

/** Numbers that fit 32 bits are in typed arrays; 64-bit integers are numbers where they are safe integers, else bigints. */
export type GgufArray =
  | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array
  | readonly string[] | readonly boolean[] | readonly (number | bigint)[] | readonly GgufArray[]; // prettier-ignore

/** One value of GGUF metadata; a 64-bit integer beyond 2^53 is a bigint, every other number a number. */
export type GgufValue = number | bigint | boolean | string | GgufArray;

export type GgufMetadata = ReadonlyMap<string, GgufValue>;
