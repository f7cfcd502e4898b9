/// <reference types="@webgpu/types" />
import type { Tuning } from "./tilings.ts";

/** What a kernel is to the host: WGSL with the entry point `main`, and what it is given. */
export interface Kernel {
  /** Equal names mean equal code: pipelines are cached by it. */
  readonly name: string;
  readonly code: string;
  /** Storage bindings 0 to n − 1 of group 0, in order. */
  readonly bindings: readonly ("read" | "write")[];
  /** Words of the uniform block at binding n, in order; it is bound with a dynamic offset. */
  readonly uniforms: readonly ("u32" | "i32" | "f32")[];
  /** Features of the device that the code enables. */
  readonly features: readonly GPUFeatureName[];
}

/** A stretch of a buffer, in bytes; its offset is a multiple of 256 where a kernel reads or writes it, of 4 for copies. */
export interface GpuSlice {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** One kernel at work. */
export interface Dispatch {
  readonly kernel: Kernel;
  readonly buffers: readonly GpuSlice[];
  readonly uniforms: readonly number[];
  readonly workgroups: readonly [number, number, number];
  /** Multiply-adds, of work for many tokens: one submission holds so many. A single token's is never cut. */
  readonly work?: number;
  /** The same object comes again, token after token. */
  readonly lasting?: boolean;
}

/** What a device offers, as kernels choose their tiles and paths by it. */
export interface Capabilities {
  readonly f16: boolean;
  /** Null where there are none. */
  readonly subgroups: { readonly smallest: number; readonly largest: number } | null;
  readonly timestamps: boolean;
  readonly maxWorkgroupsPerDimension: number;
  readonly maxInvocations: number;
  readonly maxWorkgroupMemory: number;
  readonly maxBinding: number;
  readonly maxBuffer: number;
  /** Computed on a processor: correct, but no measure of speed. */
  readonly software: boolean;
  /** What `longctx tune` found on this adapter. */
  readonly tuning?: Tuning;
}

/** Workgroups in two dimensions where one does not hold them all; kernels count x + y · `stride` and return early. */
export function spread(
  count: number,
  { maxWorkgroupsPerDimension: most }: Capabilities,
): readonly [number, number, number] {
  return count <= most ? [count, 1, 1] : [most, Math.ceil(count / most), 1];
}

/** The size of all subgroups where it is 4 or 8, as on processors whose vectors they are; else null. */
export function equalSubgroups({ subgroups }: Pick<Capabilities, "subgroups">): 4 | 8 | null {
  if (subgroups?.smallest !== subgroups?.largest) return null;
  return subgroups?.smallest === 4 || subgroups?.smallest === 8 ? subgroups.smallest : null;
}
