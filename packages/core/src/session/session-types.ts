import type { Backend, SequenceState } from "../backend/backend.ts";
import type { Method, MethodState, ModelContext, RingLayout } from "../method/method.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Capture } from "./capture.ts";
import type { StoppedPass } from "./stopped-pass.ts";

/** What a session needs of a model; `LanguageModel` is one. */
export interface SessionModel {
  readonly backend: Backend;
  readonly config: ModelConfig;
  readonly context: ModelContext;
  readonly tokenizer: Tokenizer | null;
  /** The CRC-32 checksum of the model's weights (`weightsChecksum`); null where the weights were not given. */
  readonly weightsChecksum: number | null;
}

/** The methods of a session, and the sizes of its KV cache and its chunks. */
export interface SessionOptions {
  /** One method, several methods to combine, or nothing for the plain model. */
  readonly method?: Method | readonly Method[];
  /**
   * The number of tokens that the KV cache holds; the model's `maxPositions` unless given. Methods that evict tokens
   * set the size of their ring themselves.
   */
  readonly capacity?: number;
  /**
   * The number of prompt tokens computed at once, on which results do not depend. Methods that decide for groups of
   * tokens read one group at once instead.
   */
  readonly chunk?: number;
  /**
   * A folder for a file with the keys and values of old tokens, where the device cpu keeps them outside of its ring
   * buffers; in memory unless given. The file is gone when the session and its forks are.
   */
  readonly farFolder?: string;
}

/** How `forward` and `prefill` read tokens, and for which tokens they return logits. */
export interface ForwardOptions {
  /** The number of last tokens for which logits are returned: 1 unless given, `ids.length` for all. */
  readonly logitRows?: number;
  /** The length N of the whole prompt, where the caller reads it in several calls; length-dependent tables use it. */
  readonly length?: number;
  readonly capture?: Capture;
  /**
   * Ends the pass at this layer, from 0: layers before it are computed, and of the layer itself queries, keys and values,
   * so that its attention can be captured. There are no logits, and later layers keep no keys of the tokens read, so
   * the session has to be truncated to its length before the call, or less, before a whole pass reads on, generates or
   * saves. Where the method has meanwhile evicted tokens that truncating needs, the session is of no further use.
   */
  readonly stopAfter?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Logits [rows, V] of consecutive tokens, the first of which has the text index `first`; the array belongs to the
 * caller.
 */
export interface LogitChunk {
  readonly first: number;
  readonly rows: number;
  readonly logits: Float32Array;
}

/** Under which methods a fork goes on. */
export interface ForkOptions {
  /** One method, several to combine, or an empty list for the plain model; those of the session unless given. */
  readonly method?: Method | readonly Method[];
}

/** What a session's content consists of when it is forked, saved or restored. */
export interface SessionParts {
  readonly state: SequenceState;
  /** The ring layouts of each layer, where the session was forked under other methods and keeps the rings of its trunk. */
  readonly layouts?: readonly RingLayout[];
  /** What each method with a hook (code on the host) remembers of the sequence. */
  readonly hooks: ReadonlyMap<Method, MethodState>;
  readonly tokens: readonly number[];
  readonly promptLength: number;
  readonly lastLogits: Float32Array | null;
  /** Set in a fork of a session whose last pass stopped at a layer. */
  readonly stopped?: StoppedPass | null;
}
