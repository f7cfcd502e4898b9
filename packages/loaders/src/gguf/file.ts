import { LongctxError, listed, TENSOR_TYPES, type TensorType } from "@longctx/core";
import type { ByteSource } from "../common/byte-source.ts";
import { GgufReader, type GgufMetadata, type GgufValue } from "./reader.ts";
import { StoredTensor } from "../tensor/stored-tensor.ts";
import { elementCount, TENSOR_LAYOUTS } from "../tensor/tensor-layout.ts";

const MAGIC = 0x46554747; // "GGUF", little-endian
const MAX_DIMENSIONS = 4;
const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 2 ** 20;

/** ggml's codes of tensor types, also of those that longctx does not read, so that an error can name them. */
const GGML_TYPES: Readonly<Record<number, string>> = {
  0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
  13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
  22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0",
  35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}; // prettier-ignore

/** An open GGUF file: its metadata, and its tensors by name. */
export interface GgufFile {
  readonly path: string;
  readonly version: number;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  close(): void;
}

interface TensorInfo {
  readonly name: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Bytes from the start of the tensor data. */
  readonly offset: number;
}

/**
 * Reads the header of a GGUF file of version 2 or 3 and checks it; tensors are read when they are asked for, until
 * `close`. Shapes are row-major, [outputs, inputs], the reverse of the order in the file.
 * @throws LongctxError "file" when the file is no GGUF, cut off or damaged, "config" for a type that longctx does not
 * read
 */
export function readGguf(source: ByteSource): GgufFile {
  const { path } = source;
  try {
    const reader = new GgufReader(source);
    const version = readVersion(reader, source);
    const tensorCount = reader.count("tensors", 8 + 4 + 8 + 4 + 8);
    const valueCount = reader.count("metadata values", 8 + 4 + 1);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < valueCount; i++) {
      const key = reader.string("a metadata key");
      if (key === "" || metadata.has(key))
        reader.fail(`has the metadata key "${key}" ${key === "" ? "without a name" : "twice"}`);
      metadata.set(key, reader.value(key));
    }
    const infos = new Map<string, TensorInfo>();
    for (let i = 0; i < tensorCount; i++) {
      const info = readTensorInfo(reader, path);
      if (infos.has(info.name)) reader.fail(`has the tensor ${info.name} twice`);
      infos.set(info.name, info);
    }
    const alignment = alignmentOf(metadata, reader);
    const dataStart = Math.ceil(reader.position / alignment) * alignment;
    checkPlaces(reader, infos.values(), alignment, source.size - dataStart);
    const tensors = new Map<string, StoredTensor>();
    for (const info of infos.values())
      tensors.set(info.name, new StoredTensor(source, { ...info, offset: dataStart + info.offset }));
    return { path, version, metadata, tensors, close: () => source.close() };
  } catch (error) {
    source.close();
    throw error;
  }
}

function readVersion(reader: GgufReader, { path, size }: ByteSource): number {
  if (size < 8 || reader.uint32("the magic") !== MAGIC)
    throw new LongctxError("file", `${path} is no GGUF file: it does not begin with "GGUF".`);
  const version = reader.uint32("the version");
  if (version === 2 || version === 3) return version;
  if (version !== 0 && version % 0x10000 === 0)
    throw new LongctxError(
      "file",
      `${path} is a big-endian GGUF file; longctx reads little-endian ones. Convert it (gguf_convert_endian).`,
    );
  throw new LongctxError(
    "file",
    `${path} is a GGUF file of version ${version}; longctx reads versions 2 and 3. Convert the model again.`,
  );
}

function readTensorInfo(reader: GgufReader, path: string): TensorInfo {
  const name = reader.string("a tensor's name");
  if (name === "") reader.fail("has a tensor without a name");
  const dimensions = reader.uint32(`the dimensions of ${name}`);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
    reader.fail(`gives ${name} ${dimensions} dimensions instead of 1 to ${MAX_DIMENSIONS}`);
  const sizes: bigint[] = [];
  for (let i = 0; i < dimensions; i++) sizes.unshift(reader.uint64(`the shape of ${name}`));
  const shape = sizes.map(Number);
  const elements = elementCount(shape);
  if (elements === null || elements === 0) reader.fail(`gives ${name} the impossible shape [${sizes.join(", ")}]`);
  const code = reader.uint32(`the type of ${name}`);
  const type = GGML_TYPES[code];
  if (type === undefined) reader.fail(`gives ${name} the unknown tensor type ${code}`);
  if (!isTensorType(type))
    throw new LongctxError(
      "config",
      `${path}: ${name} has the type ${type}; longctx reads ${listed(TENSOR_TYPES)}. Take a file quantised to one of them.`,
    );
  const { values, bytes } = TENSOR_LAYOUTS[type];
  if (shape.at(-1)! % values !== 0)
    reader.fail(`gives ${name} rows of ${shape.at(-1)} values, which ${type} cannot store (blocks of ${values})`);
  const offset = reader.uint64(`the place of ${name}`);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) reader.fail(`puts ${name} at byte ${offset}`);
  return { name, type, shape, byteLength: (elements / values) * bytes, offset: Number(offset) };
}

function alignmentOf(metadata: GgufMetadata, reader: GgufReader): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  if (
    typeof alignment !== "number" ||
    alignment < 8 ||
    alignment > MAX_ALIGNMENT ||
    !Number.isInteger(Math.log2(alignment))
  ) {
    reader.fail(`has the impossible alignment ${String(alignment)}`);
  }
  return alignment;
}

function checkPlaces(reader: GgufReader, infos: Iterable<TensorInfo>, alignment: number, dataSize: number): void {
  let end = 0;
  let before = "";
  for (const { name, offset, byteLength } of [...infos].sort((a, b) => a.offset - b.offset)) {
    if (offset % alignment !== 0)
      reader.fail(`puts ${name} at byte ${offset} of the data, which is not a multiple of ${alignment}`);
    if (offset < end) reader.fail(`puts ${name} at byte ${offset} of the data, inside ${before}, which ends at ${end}`);
    end = offset + byteLength;
    before = name;
    if (end > dataSize) reader.fail(`ends ${end - dataSize} bytes before the end of its tensor ${name}`);
  }
}

function isTensorType(type: string): type is TensorType {
  return (TENSOR_TYPES as readonly string[]).includes(type);
}
