import { crc32, LongctxError } from "@longctx/core";
import type { GraphOptions, GraphRange } from "./hnsw-graph.ts";
import { Metric } from "./metric.ts";

/** A graph of a saved index: its tokens and sphere, the first token that is forgotten, the library's file. */
interface SavedGraph {
  readonly range: GraphRange;
  readonly cut: number;
  readonly file: Uint8Array;
}

/**
 * What is saved beside graphs: the text index after the last token, the coordinates of keys in graphs, and the keys [n, D]
 * that are in no graph, as they are.
 */
interface SavedKeys {
  readonly length: number;
  readonly metric: Metric | null;
  readonly waiting: Float32Array;
}

/** What a saved index says of itself, in a line of JSON before its keys and the files of its graphs. */
interface Header {
  readonly format: "longctx hnsw 1";
  readonly dimension: number;
  readonly M: number;
  readonly efConstruction: number;
  readonly length: number;
  readonly metric: boolean;
  readonly waiting: number;
  readonly graphs: readonly { first: number; end: number; radius: number; cut: number; bytes: number }[];
  readonly checksum: number;
}

const FORMAT = "longctx hnsw 1";

export function savedIndex(
  { dimension, options, metric, length, waiting }: SavedKeys & { dimension: number; options: GraphOptions },
  graphs: readonly SavedGraph[],
): Uint8Array {
  const arrays = [...(metric ? [metric.factor] : []), waiting];
  const contents = [
    ...arrays.map(({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength)),
    ...graphs.map(({ file }) => file),
  ];
  const header: Header = {
    format: FORMAT,
    dimension,
    M: options.M,
    efConstruction: options.efConstruction,
    length,
    metric: metric !== null,
    waiting: waiting.length / dimension,
    graphs: graphs.map(({ range: { first, end, radius }, cut, file }) => ({ first, end, radius, cut, bytes: file.byteLength })), // prettier-ignore
    checksum: contents.reduce((sum, part) => crc32(part, sum), 0),
  };
  const all = [new TextEncoder().encode(`${JSON.stringify(header)}\n`), ...contents];
  const bytes = new Uint8Array(all.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const part of all) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

/** Takes a saved index apart. @throws LongctxError "file" where it is damaged or was built otherwise */
export function openIndex(
  bytes: Uint8Array,
  dimension: number,
  { M, efConstruction }: GraphOptions,
): SavedKeys & { readonly graphs: readonly SavedGraph[] } {
  const headEnd = bytes.indexOf(10);
  let header: Header;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, Math.max(0, headEnd)))) as Header;
  } catch (cause) {
    throw damagedIndex(cause);
  }
  if (header?.format !== FORMAT) throw damagedIndex();
  for (const [name, value] of Object.entries({ dimension, M, efConstruction })) {
    const saved = JSON.stringify(header[name as keyof Header]);
    if (saved !== String(value))
      throw new LongctxError("file", `The saved index has ${name} ${saved}, this one ${value}; build it anew.`);
  }
  if (!isConsistent(header)) throw damagedIndex();
  let at = headEnd + 1;
  const factor = header.metric ? new Uint8Array(bytes.subarray(at, (at += 8 * dimension ** 2))) : null;
  const keys = new Uint8Array(bytes.subarray(at, (at += 4 * dimension * header.waiting)));
  const graphs = header.graphs.map(({ first, end, radius, cut, bytes: size }) => ({
    range: { first, end, radius },
    cut,
    file: bytes.subarray(at, (at += size)),
  }));
  if (at !== bytes.byteLength || crc32(bytes.subarray(headEnd + 1)) !== header.checksum) throw damagedIndex();
  const metric = factor && new Metric(new Float64Array(factor.buffer), dimension);
  return { length: header.length, metric, waiting: new Float32Array(keys.buffer), graphs };
}

/** Returns whether each graph begins where the tokens of the one before end, and the keys behind them end the index. */
function isConsistent({ length, metric, waiting, graphs }: Header): boolean {
  if (
    typeof metric !== "boolean" ||
    !isCount(length) ||
    !isCount(waiting) ||
    waiting > length ||
    !Array.isArray(graphs)
  )
    return false;
  let at: number | null = null;
  for (const { first, end, radius, cut, bytes } of graphs) {
    if (![first, end, cut, bytes].every(isCount) || !(radius >= 0) || first >= cut || cut > end) return false;
    if (at !== null && first !== at) return false;
    at = cut;
  }
  return length === (at ?? length - waiting) + waiting;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export function damagedIndex(cause?: unknown): LongctxError {
  return new LongctxError("file", "The saved index is damaged, or from another program; build it anew.", { cause });
}
