import { KERNELS } from "./kernel-bytes.ts";
import type { WasmMemory } from "./shared-memory.ts";

interface WasmModule {
  readonly __module: never;
}

interface WasmModules {
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: object) => { readonly exports: unknown };
}

const { Module, Instance } = (globalThis as unknown as { WebAssembly: WasmModules }).WebAssembly;

/** Scores of some queries [heads, D] with some keys [count, D]; rows of scores begin `stride` numbers apart. */
type Score = (
  queries: number,
  keys: number,
  scores: number,
  heads: number,
  count: number,
  stride: number,
  size: number,
  scale: number,
) => void;

/** The functions that packages/core/kernels exports; their arguments are addresses, counts and sizes. */
export interface Kernels {
  multiply(product: number): void;
  attend(job: number, parts: number, each: number, output: number): void;
  scoreParts(job: number, parts: number): void;
  attendLists(job: number, parts: number): void;
  keepNearest(job: number, parts: number): void;
  sortNearest(columns: number, counts: number, rows: number, most: number): void;
  serve(): void;
  stop(): void;
  toIntegers(row: number, blockSize: number): void;
  normalise(values: number, weight: number, output: number, size: number, epsilon: number): void;
  addTo(values: number, other: number, size: number): void;
  silu(gates: number, inputs: number, output: number, size: number): void;
  compactKeys(keys: number, codes: number, scales: number, count: number, size: number): void;
  compactValues(values: number, codes: number, scales: number, slot: number, count: number, size: number): void;
  fromHalves(codes: number, numbers: number, count: number): void;
  toHalves(numbers: number, codes: number, count: number): void;
  score: Score;
  scoreHalves: Score;
  readMemory(
    queries: number,
    stride: number,
    gates: number,
    matrix: number,
    sums: number,
    attended: number,
    scratch: number,
    rows: number,
    heads: number,
    group: number,
    size: number,
  ): void;
  writeMemory(
    keys: number,
    values: number,
    matrix: number,
    sums: number,
    matrixSum: number,
    sumsSum: number,
    scratch: number,
    count: number,
    size: number,
    delta: boolean,
  ): void;
  compactQueries(queries: number, codes: number, factors: number, heads: number, size: number): void;
}

let compiled: WasmModule | undefined;

export function kernelModule(): WasmModule {
  return (compiled ??= new Module(Buffer.from(KERNELS, "base64")));
}

/** The kernels over a memory. */
export function kernels(memory: WasmMemory): Kernels {
  return new Instance(kernelModule(), { env: { memory } }).exports as Kernels;
}
