import { KERNELS } from "./kernel-bytes.ts";
import { instantiate, wasmModule, type WasmMemory, type WasmModule } from "../memory/web-assembly.ts";

/** See packages/core/kernels; numbers are addresses unless they are sizes. */
export interface Kernels {
  multiply(product: number): void;
  attend(job: number, parts: number, each: number, output: number): void;
  serve(): void;
  stop(): void;
  toIntegers(row: number, blockSize: number): void;
  normalise(values: number, weight: number, output: number, size: number, epsilon: number): void;
  addTo(values: number, other: number, size: number): void;
  silu(gates: number, inputs: number, output: number, size: number): void;
  compactKeys(keys: number, codes: number, scales: number, count: number, size: number): void;
  compactValues(values: number, codes: number, scales: number, slot: number, count: number, size: number): void;
  compactQueries(queries: number, codes: number, factors: number, heads: number, size: number): void;
}

let compiled: WasmModule | undefined;

export function kernelModule(): WasmModule {
  return (compiled ??= wasmModule(KERNELS));
}

export function kernels(memory: WasmMemory): Kernels {
  return instantiate(kernelModule(), memory) as Kernels;
}
