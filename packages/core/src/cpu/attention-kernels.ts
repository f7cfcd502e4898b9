import { ATTENTION } from "./kernel-bytes.ts";
import { instantiate, wasmModule, type WasmMemory, type WasmModule } from "./web-assembly.ts";

/** See kernels/src/attention.ts and compact.ts; numbers are addresses or sizes. */
export interface AttentionKernels {
  score(
    queries: number,
    keys: number,
    scores: number,
    heads: number,
    count: number,
    stride: number,
    size: number,
    scale: number,
  ): void;
  softmax(scores: number, sums: number, heads: number, count: number, stride: number): void;
  mix(
    weights: number,
    values: number,
    outputs: number,
    heads: number,
    count: number,
    stride: number,
    size: number,
  ): void;
  compactKeys(keys: number, codes: number, scales: number, count: number, size: number): void;
  compactValues(values: number, codes: number, scales: number, slot: number, count: number, size: number): void;
  compactQueries(queries: number, codes: number, factors: number, heads: number, size: number): void;
  scoreCompact(
    queries: number,
    factors: number,
    keys: number,
    scales: number,
    scores: number,
    heads: number,
    count: number,
    stride: number,
    size: number,
    scale: number,
  ): void;
  mixCompact(
    probabilities: number,
    weights: number,
    codes: number,
    scales: number,
    slot: number,
    outputs: number,
    heads: number,
    count: number,
    stride: number,
    size: number,
  ): void;
}

let compiled: WasmModule | undefined;

export function attentionKernels(memory: WasmMemory): AttentionKernels {
  compiled ??= wasmModule(ATTENTION);
  return instantiate(compiled, memory) as AttentionKernels;
}
