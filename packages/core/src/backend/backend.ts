import type { ModelConfig } from "../model/config.ts";
import type { LayerView, RingLayout } from "../method/method.ts";
import type { AttentionPlan } from "../method/plan.ts";
import type { Rings } from "../state/rings.ts";
import type { Draw } from "../text/sampling.ts";

export const PRECISIONS = ["exact", "fast"] as const;
/**
 * The arithmetic of a backend. `exact` computes in float32 on dequantised weights. `fast` multiplies quantised weights
 * in int8 on the cpu, as llama.cpp does; on a GPU it stores keys and values in 16 bits, and also multiplies matrices
 * for many tokens in 16 bits where the GPU can.
 */
export type Precision = (typeof PRECISIONS)[number];

/**
 * Callbacks inside a forward pass, for methods' hooks and for capture. A pass stops only at layers for which `layers`
 * is true.
 */
export interface LayerHooks {
  layers(layer: number): boolean;
  /** Receives the residual stream [T, hidden] that enters the layer. */
  hidden?(layer: number, hidden: Float32Array): void;
  /**
   * Called when the layer's queries are computed, the chunk's keys are stored, and the plan's choices are replaced by
   * lists of tokens; returns the plan that the layer uses.
   */
  queries?(view: LayerView, plan: AttentionPlan): AttentionPlan | Promise<AttentionPlan>;
  /** Receives the attention output [T, H, D] of the layer and returns what replaces it. */
  attended?(view: LayerView, attended: Float32Array): Float32Array;
}

/** A chunk of tokens for a backend to read into a sequence's state, with the plan of each layer. */
export interface ForwardRequest {
  readonly state: SequenceState;
  /**
   * The token ids of the chunk, whose first token has the text index `state.rings.length`. A chunk has at most
   * `state.rings.consecutive` tokens, so that it does not wrap around a ring; sessions split longer texts.
   */
  readonly ids: readonly number[];
  readonly plan: (layer: number) => AttentionPlan;
  /** The number of last rows (tokens) of the chunk for which logits are computed. */
  readonly logitRows: number;
  /**
   * Whether the cache keeps a copy of the raw keys, for hooks and for length-dependent tables; for choices and
   * compressive memories a backend keeps one in any case.
   */
  readonly rawKeys?: boolean;
  readonly hooks?: LayerHooks;
  /**
   * The last layer of a pass that ends early, without logits (`logitRows` 0). Of this layer the residual stream that
   * enters it, its queries, keys, values and chosen tokens are computed, and shown to the hooks; neither its attention
   * output nor its compressive memory is. Later layers keep nothing of the chunk, although the rings count its tokens.
   */
  readonly stopAfter?: number;
}

/** The bytes that a sequence's state holds, by part. */
export interface StateBytes {
  /** Bytes of keys and values in the ring buffers, counting every rotated copy of the keys. */
  readonly ring: number;
  /**
   * Bytes of keys and values that a backend keeps outside of the ring buffers, for old tokens that plans read in blocks:
   * in the host's memory, or in a file. Rows that forks share count in each of them.
   */
  readonly far: number;
  /** Bytes of what choices score: what represents blocks of tokens, and attention masses. */
  readonly index: number;
  /** Bytes of the compressive memories. */
  readonly memory: number;
}

/**
 * How often plans read blocks of old tokens that lie outside of the ring buffers, counted by layer and chunk, and how
 * many of these blocks had to be fetched because the buffers did not hold them any more.
 */
export interface BlockReads {
  readonly read: number;
  readonly fetched: number;
}

/**
 * A backend's state of one sequence: for each layer a ring of keys and values, an index where the layer chooses tokens or
 * blocks, attention masses where salient keys represent blocks, and a compressive memory where the layer has one. Sessions
 * use only operations that every part supports.
 */
export interface SequenceState {
  /** The backend that made this state; every other backend refuses to read it. */
  readonly backend: Backend;
  /** The map from tokens to slots in each layer's ring. */
  readonly rings: Rings;
  /** The bytes allocated for all parts together; 0 after `dispose`. */
  readonly bytes: number;
  readonly bytesByPart: StateBytes;
  /** Given by backends that keep old tokens outside of the ring buffers. */
  readonly blockReads?: BlockReads;
  /**
   * Makes an independent second sequence that continues from the same tokens, in rings laid out as here; a backend that
   * keeps old tokens outside of its buffers lays them out as `layouts` says, which hold as many tokens.
   */
  fork(layouts?: readonly RingLayout[]): SequenceState;
  /**
   * Forgets everything after the first `length` tokens, in every part or in none.
   * @throws LongctxError "capacity" where that needs evicted tokens, or a compressive memory or attention masses as they
   * were before
   */
  truncate(length: number): void;
  /** Returns all parts as bytes, which `Backend.restoreState` takes; a promise where a device has to be waited for. */
  save(): Uint8Array | Promise<Uint8Array>;
  dispose(): void;
}

/** Where a sequence's state lies, beside the layouts of its rings. */
export interface StateOptions {
  /**
   * A folder for a file with the keys and values of old tokens that plans read in blocks; a backend that keeps them
   * outside of the ring buffers keeps them in memory unless given.
   */
  readonly farFolder?: string;
}

/** The bytes in use on a device with memory of its own, by purpose. */
export interface DeviceMemory {
  readonly weights: number;
  /** The state of all sequences: rings of keys and values, indexes, memories, and the logits of the last token. */
  readonly cache: number;
  /**
   * Bytes of buffers that a chunk passes through (activations, tables, uniforms, read-back), bounded by the chunk's
   * size.
   */
  readonly scratch: number;
  /** The largest sum of weights, cache and scratch so far. */
  readonly peak: number;
}

/**
 * A backend, which computes a decoder's forward pass on one device. The float64 backend `reference` is what the other
 * backends are tested against.
 */
export interface Backend {
  readonly device: string;
  readonly precision: Precision;
  readonly config: ModelConfig;
  /** The number of prompt tokens in a chunk at which this backend is the fastest. */
  readonly preferredChunk: number;
  /**
   * Makes the state of an empty sequence, from one ring layout for all layers or one for each.
   * @throws LongctxError "capacity" where the device has no room for it, or nothing can be written in the folder
   */
  createState(layouts: RingLayout | readonly RingLayout[], options?: StateOptions): SequenceState;
  /**
   * Makes a state from the bytes that `SequenceState.save` wrote.
   * @throws LongctxError "file" for other bytes, "capacity" where a layout is too small
   */
  restoreState(layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array, options?: StateOptions): SequenceState;
  /** Reads a chunk into the state and returns logits [logitRows, V], which are valid until the next call. */
  forward(request: ForwardRequest): Promise<Float32Array>;
  /**
   * Reads a chunk and chooses the next token on the device, so that logits need not be copied to the host; the token is
   * the one that `drawToken` takes from the logits, up to rounding. Absent where a device cannot choose.
   */
  sample?(request: ForwardRequest, draw: Draw): Promise<SampledToken>;
  /** Returns the bytes in use on the device, where the device has memory of its own. */
  memory?(): DeviceMemory;
  dispose(): Promise<void>;
}

/** A token that a device has chosen as the next one of the text. */
export interface SampledToken {
  readonly id: number;
  /** Copies the logits [V] that the token was drawn from to the host; possible until the state is used again. */
  logits(): Promise<Float32Array>;
}
