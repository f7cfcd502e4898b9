/** Writes GGUF files for tests, lies included: every number of a tensor's description can be given. */

export type Written =
  | { u32: number }
  | { i32s: number[] }
  | { f32: number }
  | { text: string }
  | { texts: string[] }
  | { bool: boolean }
  | { bools: boolean[] }
  | { raw: Uint8Array };

export interface BuiltTensor {
  readonly name: string;
  /** Row-major, as in longctx. */
  readonly shape: readonly (number | bigint)[];
  /** ggml's code. */
  readonly type: number;
  readonly bytes: Uint8Array;
  readonly offset?: number | bigint;
}

export interface BuiltGguf {
  readonly version?: number;
  readonly metadata?: Readonly<Record<string, Written>>;
  readonly tensors?: readonly BuiltTensor[];
  readonly tensorCount?: bigint;
  readonly metadataCount?: bigint;
}

const ALIGNMENT = 32;

export function buildGguf({ version = 3, metadata = {}, tensors = [], tensorCount, metadataCount }: BuiltGguf): Buffer {
  const head: Uint8Array[] = [
    Buffer.from("GGUF"),
    u32(version),
    u64(tensorCount ?? tensors.length),
    u64(metadataCount ?? Object.keys(metadata).length),
  ];
  for (const [key, value] of Object.entries(metadata)) head.push(text(key), written(value));
  let end = 0;
  const data: Uint8Array[] = [];
  for (const { name, shape, type, bytes, offset } of tensors) {
    head.push(text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type), u64(offset ?? end));
    const padding = -bytes.length & (ALIGNMENT - 1);
    data.push(bytes, new Uint8Array(padding));
    end += bytes.length + padding;
  }
  const header = Buffer.concat(head);
  return Buffer.concat([header, new Uint8Array(-header.length & (ALIGNMENT - 1)), ...data]);
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function u64(value: number | bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
}

export function text(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

export function floats(values: readonly number[] | Float32Array): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

function written(value: Written): Uint8Array {
  if ("u32" in value) return Buffer.concat([u32(4), u32(value.u32)]);
  if ("f32" in value) return Buffer.concat([u32(6), floats([value.f32])]);
  if ("bool" in value) return Buffer.concat([u32(7), Uint8Array.of(Number(value.bool))]);
  if ("text" in value) return Buffer.concat([u32(8), text(value.text)]);
  if ("texts" in value) return Buffer.concat([u32(9), u32(8), u64(value.texts.length), ...value.texts.map(text)]);
  if ("bools" in value)
    return Buffer.concat([u32(9), u32(7), u64(value.bools.length), Uint8Array.from(value.bools, Number)]);
  if ("i32s" in value)
    return Buffer.concat([u32(9), u32(5), u64(value.i32s.length), new Uint8Array(Int32Array.from(value.i32s).buffer)]);
  return value.raw;
}
