import { LongctxError, TENSOR_TYPES, type TensorType } from "@longctx/core";
import type { ByteSource } from "../common/byte-source.ts";
import { isObject } from "../common/json.ts";
import { StoredTensor } from "../tensor/stored-tensor.ts";
import { elementCount } from "../tensor/tensor-layout.ts";

/** The limit of the format's own library; the header of a million tensors has about this length. */
const MAX_HEADER_BYTES = 100_000_000;
const MAX_DIMENSIONS = 8;

/**
 * Bits of a value of each data type of the format; longctx reads F32, F16 and BF16, other types may be in the file too.
 */
const DATA_TYPE_BITS: Readonly<Record<string, number>> = {
  F4: 4, F6_E2M3: 6, F6_E3M2: 6, F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8, BOOL: 8, U8: 8, I8: 8,
  F16: 16, BF16: 16, U16: 16, I16: 16, F32: 32, U32: 32, I32: 32, F64: 64, U64: 64, I64: 64, C64: 64,
}; // prettier-ignore

/** An open safetensors file, or all shards of a checkpoint. */
export interface SafetensorsFile {
  readonly path: string;
  /** The tensors of type F32, F16 and BF16, by name. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** The types of all other tensors, by name; such a tensor is an error only when the model needs it. */
  readonly unreadable: ReadonlyMap<string, string>;
  close(): void;
}

interface Entry {
  readonly name: string;
  readonly dataType: string;
  readonly shape: readonly number[];
  readonly from: number;
  readonly to: number;
}

/**
 * Reads the header of a safetensors file and checks it; tensors are read when they are asked for, until `close`.
 * @throws LongctxError "file" when the file is cut off, or when the type, shape and offsets of a tensor disagree
 */
export function readSafetensors(source: ByteSource): SafetensorsFile {
  const { path } = source;
  try {
    const { entries, dataStart } = readHeader(source);
    checkCoverage(path, entries, source.size - dataStart);
    const tensors = new Map<string, StoredTensor>();
    const unreadable = new Map<string, string>();
    for (const { name, dataType, shape, from, to } of entries) {
      if (isTensorType(dataType))
        tensors.set(
          name,
          new StoredTensor(source, { name, type: dataType, shape, offset: dataStart + from, byteLength: to - from }),
        );
      else unreadable.set(name, dataType);
    }
    return { path, tensors, unreadable, close: () => source.close() };
  } catch (error) {
    source.close();
    throw error;
  }
}

function readHeader(source: ByteSource): { entries: Entry[]; dataStart: number } {
  const { path, size } = source;
  if (size < 8)
    throw new LongctxError(
      "file",
      `${path} has ${size} bytes, too few for a safetensors file. Is the download complete?`,
    );
  const prefix = source.read(0, 8);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES) || length > BigInt(size - 8)) {
    throw new LongctxError(
      "file",
      `${path} announces a header of ${length} bytes, but has ${size} bytes in all (and headers end at ${MAX_HEADER_BYTES}). It is cut off or no safetensors file; download it again.`,
    );
  }
  const dataStart = 8 + Number(length);
  const text = new TextDecoder().decode(source.read(8, Number(length)));
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new LongctxError(
      "file",
      `The header of ${path} is not JSON (${(cause as Error).message}). It is damaged or no safetensors file; download it again.`,
      { cause },
    );
  }
  if (!isObject(header))
    throw new LongctxError(
      "file",
      `The header of ${path} is not a JSON object. It is damaged or no safetensors file; download it again.`,
    );
  const names = Object.keys(header).filter((name) => name !== "__metadata__");
  return { entries: names.map((name) => readEntry(path, name, header[name])), dataStart };
}

function readEntry(path: string, name: string, value: unknown): Entry {
  const fail = (what: string) =>
    new LongctxError(
      "file",
      `${path}: the tensor ${JSON.stringify(name.slice(0, 200))} ${what}. The file is damaged; download it again.`,
    );
  if (!isObject(value)) throw fail("is not described by an object");
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(DATA_TYPE_BITS, dtype))
    throw fail(`has the unknown type ${JSON.stringify(dtype)?.slice(0, 50)}`);
  if (!isNumbers(shape) || shape.length > MAX_DIMENSIONS) throw fail(`has no shape of at most ${MAX_DIMENSIONS} sizes`);
  const elements = elementCount(shape);
  if (elements === null) throw fail(`has the impossible shape [${shape.join(", ")}]`);
  if (
    !isNumbers(offsets) ||
    offsets.length !== 2 ||
    !offsets.every((offset) => Number.isSafeInteger(offset) && offset >= 0) ||
    offsets[1] < offsets[0]
  ) {
    throw fail(`has the impossible place ${JSON.stringify(offsets)?.slice(0, 50)}`);
  }
  const bits = elements * DATA_TYPE_BITS[dtype];
  const [from, to] = offsets;
  if (bits % 8 !== 0 || bits / 8 !== to - from)
    throw fail(`has the shape [${shape.join(", ")}] of ${dtype}, ${bits / 8} bytes, but a place of ${to - from} bytes`);
  return { name, dataType: dtype, shape, from, to };
}

/** Checks what the format demands: tensors neither overlap nor leave gaps, and the last one ends with the file. */
function checkCoverage(path: string, entries: readonly Entry[], dataSize: number): void {
  const ordered = entries.toSorted((a, b) => a.from - b.from || a.to - b.to);
  let end = 0;
  for (const { name, from, to } of ordered) {
    if (to > dataSize)
      throw new LongctxError(
        "file",
        `${path}: the tensor ${JSON.stringify(name)} ends at byte ${to} of the data, but the file holds ${dataSize}. The file is cut off; download it again.`,
      );
    if (from !== end)
      throw new LongctxError(
        "file",
        `${path}: the tensor ${JSON.stringify(name)} begins at byte ${from} of the data, where the one before it ends at ${end}. The file is damaged; download it again.`,
      );
    end = to;
  }
  if (end !== dataSize)
    throw new LongctxError(
      "file",
      `${path} holds ${dataSize} bytes of data, but its tensors end at ${end}. The file is damaged; download it again.`,
    );
}

function isTensorType(type: string): type is TensorType {
  return (TENSOR_TYPES as readonly string[]).includes(type);
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === "number");
}
