import type { ModelConfig, RopeConfig } from "../model/config.ts";
import type { CacheLayout } from "../state/slots.ts";
import type { AttentionPlan, FrequencyTable, Segment } from "./plan.ts";

/** The five independent things a method may change (docs/design.md, "The five axes"). */
export const AXES = ["frequencies", "distance", "visibility", "memory", "temperature"] as const;
export type Axis = (typeof AXES)[number];

/** What a method may know before any token is read. */
export interface ModelContext {
  readonly config: ModelConfig;
  /** T, possibly overridden by the user. */
  readonly trainedWindow: number;
}

export interface LengthContext {
  /** The checkpoint's own description: base, rotary size. */
  readonly rope: RopeConfig;
  readonly trainedWindow: number;
  /** The prompt's length N in every chunk of the prompt, the current length for each generated token. */
  readonly length: number;
}

/** The queries a plan is for: text indices [first, first + count), in a text of `length` tokens so far. */
export interface ChunkContext extends ModelContext {
  readonly first: number;
  readonly count: number;
  readonly length: number;
  /** N of the first prompt that was read, also for what is read or generated after it. */
  readonly promptLength: number;
  readonly layer: number;
}

/** What a hook sees of one layer while a chunk passes through it. Views are valid during the call only. */
export interface LayerView {
  readonly layer: number;
  /** Text indices of the chunk: [first, first + count). */
  readonly first: number;
  readonly count: number;
  /** [T, H, D], not rotated. */
  queries(): Float32Array;
  /** Keys of tokens [from, to), not rotated, [n, K, D]; the chunk's own are included. */
  keys(range: { from: number; to: number }): Float32Array;
  /** Values of tokens [from, to), [n, K, D]. */
  values(range: { from: number; to: number }): Float32Array;
}

/** What a method remembers beside the cache, one for each sequence. */
export interface MethodState {
  /** After the softmax of a layer: `attended` is [T, H, D] before the output product; the answer replaces it. */
  attended(view: LayerView, attended: Float32Array): Float32Array;
  fork(): MethodState;
  /** For saving; `restore` takes the same bytes. */
  save(): Uint8Array;
  restore(bytes: Uint8Array): void;
  /** Forget everything after `length` tokens. @throws LongctxError when that is no longer possible */
  truncate(length: number): void;
}

/**
 * A way of reaching past the trained window: data and pure functions on the five axes. A method implements what it
 * changes and leaves out the rest; `compose` refuses two that claim the same axis.
 */
export interface Method {
  /** As written on a command line, parameters filled in: `yarn:factor=4`. */
  readonly spec: string;
  readonly axes: readonly Axis[];
  /** Names of other methods it cannot be composed with, and why. */
  readonly conflicts?: Readonly<Record<string, string>>;
  /** Counts distances by groups, chunks or documents, so that a checkpoint's own sliding window is switched off. */
  readonly disablesSlidingWindow?: boolean;
  /** Positions that attention spans at most, however long the text is; tables that follow a length stop there. */
  readonly span?: number;
  /** Refuse what cannot work on this model. @throws LongctxError "method" */
  check?(context: ModelContext): void;

  /** Axis h: the table that replaces the checkpoint's own. */
  frequencies?(context: LengthContext): FrequencyTable;
  /** The table changes with the length, so keys have to be rotated again. */
  readonly lengthDependent?: boolean;
  /** What to use instead of a length-dependent table beside a method with a finite span: "ntk with a fixed factor". */
  readonly fixedAlternative?: string;
  /** Axes V and g: narrows, splits and moves the segments it is given. */
  segments?(segments: readonly Segment[], chunk: ChunkContext): Segment[];
  /** Axis τ: multiplies the scores of the query at text index m. */
  temperature?(query: number, context: ModelContext): number;
  /** The first so many tokens of a text see each other in both directions, so that they have to be read at once. */
  readonly readAtOnce?: number;
  /** What is kept of a text depends on how long the first prompt is, so no other prompt can go on from it. */
  readonly dependsOnPrompt?: boolean;
  /** Which slots hold which tokens, when the cache is bounded. */
  layout?(context: ModelContext & { readonly chunk: number }): CacheLayout | undefined;

  /** Retrieval: after the queries of a layer are known, its plan may be changed. */
  readonly select?: {
    layers(layer: number): boolean;
    plan(plan: AttentionPlan, view: LayerView): AttentionPlan | Promise<AttentionPlan>;
  };
  /** Memory: state of its own, merged after the softmax of the layers named. */
  readonly memory?: { layers(layer: number): boolean; create(context: ModelContext): MethodState };
}
