import type { ModelConfig, RopeConfig } from "../model/config.ts";
import type { AttentionPlan, FrequencyTable, GatedBranch, MemoryBranch, Segment } from "./plan.ts";

/** The five independent aspects of attention that a method may change (docs/design.md, "The five axes"). */
export type Axis = "frequencies" | "distance" | "visibility" | "memory" | "temperature";

/** What a method knows of the model before any token is read. */
export interface ModelContext {
  readonly config: ModelConfig;
  /** The trained window T in tokens, which the user may have overridden. */
  readonly trainedWindow: number;
  /**
   * Tensors that the checkpoint holds for methods instead of the decoder, by canonical name
   * (`layers.0.method.infini_gate`); absent where the weights are not known.
   */
  readonly learned?: ReadonlyMap<string, Float32Array>;
}

/** What a method knows when it decides how a layer's ring buffer of keys and values is laid out. */
export interface LayoutContext extends ModelContext {
  readonly layer: number;
  /** The largest number of tokens that one chunk reads. */
  readonly chunk: number;
}

/** The layout of a layer's ring buffer of keys and values, from which `SlotMap` computes the slot of each token. */
export interface RingLayout {
  /** The number of slots in the ring, each of which holds the key and the value of one token. */
  readonly capacity: number;
  /**
   * Tokens [0, pinned) are never evicted from the ring; a ring that evicts nothing has `pinned` equal to `capacity`.
   */
  readonly pinned: number;
  /**
   * How many tokens before the end of a text the ring has to hold for the text to be continued. After evictions a text
   * can be truncated only to where that many tokens are still held; without `reach` all tokens have to be held.
   */
  readonly reach?: number;
  /**
   * Given where plans read old tokens in whole blocks only, so that a backend may keep the keys and values of other old
   * tokens outside of the buffers that attention reads; the ring holds all tokens either way.
   */
  readonly near?: NearTokens & {
    /** The size of the method's groups: a chunk lies between two multiples of it in the text. */
    readonly chunk: number;
  };
}

/**
 * The tokens that a method's plans see whatever the queries ask for. Of all other tokens a plan sees blocks: tokens
 * [first + j · block, first + (j + 1) · block).
 */
export interface NearTokens {
  /** Tokens [0, first) are near for every query. */
  readonly first: number;
  /** How many tokens before the first token of a chunk are near for the chunk. */
  readonly last: number;
  /** The number of tokens in a block. */
  readonly block: number;
  /** The largest number of blocks that a chunk's plan sees. */
  readonly blocks: number;
}

/** What a frequency method knows when it makes a frequency table. */
export interface LengthContext {
  /** The checkpoint's own RoPE description: base, rotary size and scaling. */
  readonly rope: RopeConfig;
  readonly trainedWindow: number;
  /**
   * The text length in tokens that a length-dependent table uses: the prompt's length N in every chunk of the prompt,
   * the current length for each generated token.
   */
  readonly length: number;
}

/**
 * The chunk and layer that a plan is made for: queries with text indices [first, first + count), in a text of `length`
 * tokens.
 */
export interface ChunkContext extends ModelContext {
  readonly first: number;
  readonly count: number;
  readonly length: number;
  /** The length N of the session's first prompt, which stays the same for all tokens read or generated after it. */
  readonly promptLength: number;
  readonly layer: number;
}

/**
 * What a method's hook can read of one layer while a chunk passes through it; the arrays are valid during the call
 * only.
 */
export interface LayerView {
  readonly layer: number;
  /** The text index of the chunk's first token; the chunk is [first, first + count). */
  readonly first: number;
  readonly count: number;
  /** Returns the chunk's queries [T, H, D] before the rotation. */
  queries(): Float32Array;
  /** Returns the keys [n, K, D] of tokens [from, to) before the rotation; the chunk's own tokens may be among them. */
  keys(range: { from: number; to: number }): Float32Array;
  /** Returns the values [n, K, D] of tokens [from, to). */
  values(range: { from: number; to: number }): Float32Array;
}

/**
 * The code of a method's hook, which runs on the host inside a layer, and its memory of one sequence. Hooks are for
 * methods that a plan cannot express; a GPU has to be waited for at every layer that a hook names.
 */
export interface MethodState {
  /**
   * Returns the attention plan that the layer uses in place of `plan`; a backend calls it in each pass when the layer's queries are computed and the chunk's keys are cached.
   */
  plan?(plan: AttentionPlan, view: LayerView): AttentionPlan | Promise<AttentionPlan>;
  /**
   * Returns a replacement for the layer's attention output `attended` [T, H, D], after the softmax and before the
   * output projection.
   */
  attended?(view: LayerView, attended: Float32Array): Float32Array;
  /**
   * Set where the hook remembers nothing of a sequence, so that a chunk whose reading failed half-way can be read
   * again.
   */
  readonly remembersNothing?: true;
  fork(): MethodState;
  /** Returns the hook's memory of the sequence as bytes, which `restore` takes. */
  save(): Uint8Array;
  restore(bytes: Uint8Array): void;
  /** Forgets everything after the first `length` tokens. @throws LongctxError when that is no longer possible */
  truncate(length: number): void;
}

/** Makes the state of a hook that remembers nothing: its work at a layer depends on the plan and the view alone. */
export function stateless(act: Pick<MethodState, "plan" | "attended">): MethodState {
  const state: MethodState = {
    ...act,
    remembersNothing: true,
    fork: () => state,
    save: () => new Uint8Array(),
    restore: () => undefined,
    truncate: () => undefined,
  };
  return state;
}

/** Caches the result of `make` for each model, because plans count as equal only if they share the same objects. */
export function oncePerModel<Value>(make: (context: ModelContext) => Value): (context: ModelContext) => Value {
  const made = new WeakMap<object, { readonly value: Value }>();
  return (context) => {
    const model = context.learned ?? context.config;
    const known = made.get(model) ?? { value: make(context) };
    made.set(model, known);
    return known.value;
  };
}

/**
 * A method for texts beyond the trained window: data and pure functions on the five axes. A method has functions for
 * the axes that it changes only; `compose` refuses two methods that claim the same axis.
 */
export interface Method {
  /** The method as a command line writes it, with its parameters: `yarn:factor=4`. */
  readonly spec: string;
  readonly axes: readonly Axis[];
  /** The names of methods that this method cannot be combined with, each with the reason. */
  readonly conflicts?: Readonly<Record<string, string>>;
  /**
   * Whether a checkpoint's own sliding window is switched off, because the method counts distances by groups, chunks or
   * documents.
   */
  readonly disablesSlidingWindow?: boolean;
  /**
   * The most positions that attention covers, however long the text is; a length-dependent table follows the length up
   * to it.
   */
  readonly span?: number;
  /** Refuses a model on which the method cannot work. @throws LongctxError "method" */
  check?(context: ModelContext): void;

  /** Axis h: returns the frequency table that replaces the checkpoint's own. */
  frequencies?(context: LengthContext): FrequencyTable;
  /** Whether the frequency table changes with the text's length, so that cached keys have to be rotated again. */
  readonly lengthDependent?: boolean;
  /**
   * What an error message proposes where this length-dependent method meets one with a finite span: "ntk with a fixed
   * factor".
   */
  readonly fixedAlternative?: string;
  /**
   * Why the frequency table may not change with the text's length, as what the method keeps is made with one table; absent
   * where it may.
   */
  readonly fixedTable?: string;
  /** Axes V and g: returns the plan's segments, narrowed to visible tokens or split and given other positions. */
  segments?(segments: readonly Segment[], chunk: ChunkContext): Segment[];
  /** Axis τ: returns the factor on the attention scores of the query at text index `query`. */
  temperature?(query: number, context: ModelContext): number;
  /**
   * The number of first tokens that attend to each other in both directions, so that one chunk has to read all of them.
   */
  readonly readAtOnce?: number;
  /**
   * Whether the KV cache's content depends on the length of the first prompt, so that prompts of other lengths cannot
   * share it.
   */
  readonly dependsOnPrompt?: boolean;
  /**
   * The number of tokens in a group. The method decides for a whole group what its tokens see, so a group is read in
   * one chunk, whatever chunk size was asked for. Groups begin at multiples of the size in the text and also end where
   * a call of prefill ends; each generated token is a group of its own.
   */
  readonly groupSize?: number;
  /**
   * Whether keys without rotation are kept from the first token on, because the method later computes something from
   * them.
   */
  readonly rawKeys?: boolean;
  /**
   * Returns the layout of the layer's ring buffer where the method bounds it; undefined where the layer keeps all
   * tokens.
   */
  layout?(context: LayoutContext): RingLayout | undefined;
  /**
   * Returns which tokens of a layer's ring the plans read at all times, where all others are read in blocks; undefined
   * where plans may read any token. For methods that read groups only.
   */
  near?(context: LayoutContext): NearTokens | undefined;
  /**
   * Axis M: returns a second softmax beside the plan's own, over tokens that the queries choose; `segment` is the plain
   * segment, everything at text positions.
   */
  gated?(segment: Segment, chunk: ChunkContext): GatedBranch | undefined;
  /** Axis M: returns the compressive memory beside the softmax, the same object for all chunks of a model. */
  memory?(context: ModelContext): MemoryBranch | undefined;
  /**
   * A hook, code of the method that runs on the host: `layers` says at which layers, `create` makes its state for a
   * sequence.
   */
  readonly hook?: { layers(layer: number): boolean; create(context: ModelContext): MethodState };
}
