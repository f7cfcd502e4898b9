import { storeTuning } from "#platform";
import type { ModelConfig } from "@longctx/core";
import type { TuneOptions, TuneResult, Tuning } from "@longctx/core/webgpu";

export interface TuneAdapterOptions extends TuneOptions {
  /** Is told the adapter's name before anything is measured. */
  readonly onAdapter?: (name: string) => void;
  /** Tokens of a chunk, and tokens that one token looks back at. */
  readonly chunk?: number;
  readonly context?: number;
  /** Whether later runs follow what is found, true unless given. */
  readonly keep?: boolean;
}

export interface TunedAdapter {
  /** All that it says of itself. */
  readonly adapter: string;
  readonly tuning: Tuning;
  readonly results: readonly TuneResult[];
  /** Where it is kept. */
  readonly file: string | null;
}

/** Sizes of a small Llama. */
const USUAL = { hiddenSize: 576, feedForwardSize: 1536, queryHeads: 9, keyHeads: 3, headSize: 64 } as const;

/**
 * Measures the plans of the WebGPU kernels on this machine's adapter, with the sizes of a model, and keeps the fastest:
 * `load` follows them from then on. @throws LongctxError "device" without an adapter
 */
export async function tuneAdapter(
  sizes: Pick<ModelConfig, keyof typeof USUAL> = USUAL,
  { chunk = 256, context = 2048, keep = true, onAdapter, ...options }: TuneAdapterOptions = {},
): Promise<TunedAdapter> {
  const { openGpu, tune, tuningRecord } = await import("@longctx/core/webgpu");
  const gpu = await openGpu();
  try {
    onAdapter?.(gpu.name);
    const { queryHeads, keyHeads, headSize } = sizes;
    const attention = { queryHeads, keyHeads, headSize, pairs: headSize / 2, storage: "f32" as const };
    const { hiddenSize: columns, feedForwardSize: rows } = sizes;
    const { tuning, results } = await tune(gpu, { rows, columns, attention, chunk, context }, options);
    const { adapter } = gpu;
    return { adapter, tuning, results, file: keep ? storeTuning(adapter, tuningRecord(adapter, tuning)) : null };
  } finally {
    gpu.destroy();
  }
}
