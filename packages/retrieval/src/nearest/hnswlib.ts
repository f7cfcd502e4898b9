import { LongctxError } from "@longctx/core";
import { nodeModule } from "./node-modules.ts";

/** The part of hnswlib-node's index that is used here; hnswlib is by Malkov and Yashunin, arXiv:1603.09320. */
export interface NativeIndex {
  initIndex(capacity: number, m: number, efConstruction: number, seed: number): void;
  resizeIndex(capacity: number): void;
  addPoint(point: readonly number[], label: number): void;
  getPoint(label: number): number[];
  setEf(ef: number): void;
  /** Distances are 1 − q · k, ascending. @throws Error where `count` is above the capacity */
  searchKnn(
    query: readonly number[],
    count: number,
    filter?: (label: number) => boolean,
  ): { readonly distances: readonly number[]; readonly neighbors: readonly number[] };
  writeIndexSync(path: string): void;
  readIndexSync(path: string): void;
  getMaxElements(): number;
}

export interface Hnswlib {
  readonly HierarchicalNSW: new (space: "ip", dimension: number) => NativeIndex;
}

const found = new Map<string, Hnswlib>();

/**
 * Returns the library hnswlib-node as the module `from` finds it. Users install it if they want it, and browsers do not
 * have it, so it is looked up when it is first needed, and without an import that a bundler would follow.
 * @throws LongctxError "method"
 */
export function hnswlib(from: string = import.meta.url): Hnswlib {
  const known = found.get(from);
  if (known) return known;
  const modules = nodeModule("module");
  if (!modules)
    throw new LongctxError("method", "index=hnsw needs Node, whose packages a page cannot load; use index=exact here.");
  const load = modules.createRequire(from);
  try {
    load.resolve("hnswlib-node");
  } catch (cause) {
    throw new LongctxError(
      "method",
      "index=hnsw needs the package hnswlib-node, which is not installed; run `npm install hnswlib-node` (its install script compiles it, with Python and a C++ compiler), or use index=exact.",
      { cause },
    );
  }
  try {
    const library = load("hnswlib-node") as Hnswlib;
    found.set(from, library);
    return library;
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).split("\n")[0];
    throw new LongctxError(
      "method",
      `The native part of hnswlib-node does not load (${reason}); compile it with \`npm rebuild hnswlib-node\`, which needs Python and a C++ compiler, or use index=exact.`,
      { cause },
    );
  }
}
