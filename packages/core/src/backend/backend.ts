import type { ModelConfig } from "../model/config.ts";
import type { LayerView } from "../method/method.ts";
import type { AttentionPlan } from "../method/plan.ts";
import type { Draw } from "../text/sampling.ts";
import type { CacheLayout, SlotMap } from "../state/slots.ts";

export const PRECISIONS = ["exact", "fast"] as const;
/**
 * `exact`: what float32 gives on the dequantised weights. `fast`: int8 products with quantised weights, as llama.cpp does,
 * on the cpu; keys and values of 16 bits on a GPU, and products of many tokens too where it multiplies such.
 */
export type Precision = (typeof PRECISIONS)[number];

/** Stops inside a forward pass, for retrieval, memory and capture. Only the layers named are stopped at. */
export interface LayerHooks {
  layers(layer: number): boolean;
  /** The residual stream [T, hidden] before the layer. */
  hidden?(layer: number, hidden: Float32Array): void;
  /** The queries are known and the chunk's keys are cached; may answer with another plan. */
  queries?(view: LayerView, plan: AttentionPlan): AttentionPlan | Promise<AttentionPlan>;
  /** Attention is done: [T, H, D]; the answer replaces it. */
  attended?(view: LayerView, attended: Float32Array): Float32Array;
}

export interface ForwardRequest {
  readonly cache: Cache;
  /** The chunk's token ids; its first token has the text index `cache.slots.length`. Sessions cut chunks at a ring's end. */
  readonly ids: readonly number[];
  readonly plan: (layer: number) => AttentionPlan;
  /** How many of the last rows get logits. */
  readonly logitRows: number;
  /** Keep a copy of the keys without rotation: retrieval reads it, and tables that change need it. */
  readonly rawKeys?: boolean;
  readonly hooks?: LayerHooks;
}

/** Keys and values of one sequence, all layers, in buffers of fixed capacity. */
export interface Cache {
  readonly slots: SlotMap;
  /** Bytes allocated. */
  readonly bytes: number;
  /** A second sequence that continues from the same tokens; neither sees what the other adds. */
  fork(): Cache;
  truncate(length: number): void;
  /** The held tokens as bytes; `Backend.restoreCache` takes them. A promise where the device has to be waited for. */
  save(): Uint8Array | Promise<Uint8Array>;
  dispose(): void;
}

/** Bytes on a device with memory of its own, by purpose. */
export interface DeviceMemory {
  readonly weights: number;
  /** Keys and values of all sequences, and the logits they end with. */
  readonly cache: number;
  /** What chunks flow through: activations, tables, uniforms, buffers to read through. Bounded by the chunk's size. */
  readonly scratch: number;
  /** The most there was of all three together. */
  readonly peak: number;
}

/** The same few operations on every device. The `reference` is the judge of the others. */
export interface Backend {
  readonly device: string;
  readonly precision: Precision;
  readonly config: ModelConfig;
  /** How many tokens of a prompt are best computed at once. */
  readonly preferredChunk: number;
  /** @throws LongctxError "capacity" where there is no room for it */
  createCache(layout: CacheLayout): Cache;
  /** What `Cache.save` wrote. @throws LongctxError "file" for other bytes, "capacity" where the layout is too small */
  restoreCache(layout: CacheLayout, bytes: Uint8Array): Cache;
  /** Appends the chunk to the cache; logits are [logitRows, V], valid until the next call. */
  forward(request: ForwardRequest): Promise<Float32Array>;
  /**
   * Where a device can choose the token after the chunk's last itself, so that logits need not be fetched: the one that
   * `drawToken` takes from them, up to rounding. `logits` fetches them, [V], until the cache is used again.
   */
  sample?(request: ForwardRequest, draw: Draw): Promise<SampledToken>;
  /** What is held where a device has memory of its own. */
  memory?(): DeviceMemory;
  dispose(): Promise<void>;
}

export interface SampledToken {
  readonly id: number;
  /** Those it was drawn from, [V]. */
  logits(): Promise<Float32Array>;
}
