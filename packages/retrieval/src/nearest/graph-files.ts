import { LongctxError } from "@longctx/core";
import type { Graph } from "./hnsw-graph.ts";
import { nodeModule } from "./node-modules.ts";

/** The head of the library's files: six counts of eight bytes, two of four (top layer, entry), five of eight. */
const HEAD = 96;

/** The sizes of what a graph's file holds: numbers of a stored key, neighbours of a node, keys. */
export interface GraphSizes {
  readonly numbers: number;
  readonly M: number;
  readonly count: number;
}

/**
 * Calls `use` with the path of a temporary file, the only way into and out of the library; the file is removed in any
 * case. @throws LongctxError "capacity" where the folder cannot be written to
 */
export function withTemporaryFile<Result>(use: (path: string) => Result): Result {
  const [fs, os, { join }] = [nodeModule("fs")!, nodeModule("os")!, nodeModule("path")!];
  let folder: string;
  try {
    folder = fs.mkdtempSync(join(os.tmpdir(), "longctx-hnsw-"));
  } catch (cause) {
    throw noRoom(cause);
  }
  try {
    return use(join(folder, "graph"));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** Has the library write a graph to `path`, and returns the file. @throws LongctxError "capacity" where the disk is full */
export function graphFile(graph: Graph, path: string, sizes: GraphSizes): Uint8Array {
  let bytes: Uint8Array;
  try {
    graph.write(path);
    bytes = nodeModule("fs")!.readFileSync(path);
  } catch (cause) {
    throw noRoom(cause);
  }
  if (!isGraphFile(bytes, sizes)) throw noRoom();
  return bytes;
}

/** @throws LongctxError "capacity" where the disk is full */
export function writeGraphFile(path: string, bytes: Uint8Array): void {
  try {
    nodeModule("fs")!.writeFileSync(path, bytes);
  } catch (cause) {
    throw noRoom(cause);
  }
}

function noRoom(cause?: unknown): LongctxError {
  const reason = cause instanceof Error ? ` (${cause.message})` : "";
  return new LongctxError(
    "capacity",
    `The index could not be written to ${nodeModule("os")!.tmpdir()}${reason}; free room there, or name another folder in TMPDIR.`,
    { cause },
  );
}

/**
 * Returns whether bytes are a whole file of the library for a graph of these sizes, so that the library neither reads
 * past its end nor takes keys of another size: the sizes of an element, then the elements, then for each element the
 * bytes of its links in upper layers and these links.
 */
export function isGraphFile(bytes: Uint8Array, { numbers, M, count }: GraphSizes): boolean {
  if (bytes.byteLength < HEAD) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = (at: number) => Number(view.getBigUint64(at, true));
  const links = 4 * (2 * M + 1);
  const element = links + 4 * numbers + 8;
  const [offset, capacity, held, elementBytes, label, key] = [0, 8, 16, 24, 32, 40].map(long);
  const [upper, lowest, neighbours] = [56, 64, 72].map(long);
  if (offset !== 0 || held !== count || capacity < count) return false;
  if (elementBytes !== element || label !== links + 4 * numbers || key !== links) return false;
  if (upper !== M || lowest !== 2 * M || neighbours !== M || view.getUint32(52, true) >= count) return false;
  let at = HEAD + count * element;
  for (let i = 0; i < count; i++) {
    if (at + 4 > bytes.byteLength) return false;
    at += 4 + view.getUint32(at, true);
  }
  return at === bytes.byteLength;
}
