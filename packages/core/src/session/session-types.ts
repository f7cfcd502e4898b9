import type { Cache } from "../backend/backend.ts";
import type { Capture } from "./capture.ts";
import type { Method, MethodState } from "../method/method.ts";

export interface SessionOptions {
  /** One method, several to be composed, or none: the model as it is. */
  readonly method?: Method | readonly Method[];
  /** Tokens the cache holds; the model's `maxPositions` unless given. Methods that bound the cache set it themselves. */
  readonly capacity?: number;
  /** Tokens of a prompt computed at once; results do not depend on it. */
  readonly chunk?: number;
}

export interface ForwardOptions {
  /** How many of the last rows get logits; `ids.length` for all, 1 unless given. */
  readonly logitRows?: number;
  /** The prompt's whole length N when it is fed in parts; tables that depend on the length use it. */
  readonly length?: number;
  readonly capture?: Capture;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Logits [rows, V] of the tokens whose text indices begin with `first`; the caller's own. */
export interface LogitChunk {
  readonly first: number;
  readonly rows: number;
  readonly logits: Float32Array;
}

/** What a fork or a saved file continues from. */
export interface SessionState {
  readonly cache: Cache;
  readonly memory: ReadonlyMap<Method, MethodState>;
  readonly tokens: readonly number[];
  readonly promptLength: number;
  readonly lastLogits: Float32Array | null;
}
