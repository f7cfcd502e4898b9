import type { Cache } from "./backend.ts";
import type { Capture } from "./capture.ts";
import type { Composition } from "./compose.ts";
import { LongctxError } from "./errors.ts";
import { Generation, type GenerationOptions } from "./generation.ts";
import { layerHooks } from "./hooks.ts";
import { saveSession } from "./saved-session.ts";
import type { Method, MethodState } from "./method.ts";
import type { LanguageModel } from "./model.ts";
import type { AttentionPlan } from "./plan.ts";
import type { CacheLayout } from "./slots.ts";

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

/** Logits [rows, V] of the tokens whose text indices begin with `first`; valid until the next chunk. */
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
  readonly lastLogits: Float32Array | null;
}

/** One sequence: its tokens, its cache, and the methods it is read under. */
export class Session {
  readonly model: LanguageModel;
  readonly method: Composition;
  readonly options: SessionOptions;
  readonly chunk: number;
  readonly layout: CacheLayout;
  readonly #cache: Cache;
  readonly #memory: Map<Method, MethodState>;
  readonly #tokens: number[];
  #lastLogits: Float32Array | null;
  #busy = false;

  constructor(model: LanguageModel, method: Composition, options: SessionOptions, state?: SessionState) {
    const { backend, context } = model;
    this.model = model;
    this.method = method;
    this.options = options;
    this.chunk = options.chunk ?? backend.preferredChunk;
    if (!Number.isInteger(this.chunk) || this.chunk < 1)
      throw new LongctxError(
        "argument",
        `A chunk of ${this.chunk} tokens is impossible; give a whole number of at least 1.`,
      );
    method.check(context);
    const capacity = options.capacity ?? context.config.maxPositions;
    this.layout = method.layout({ ...context, chunk: this.chunk }) ?? { capacity, pinned: capacity };
    this.#cache = state?.cache ?? backend.createCache(this.layout);
    this.#memory = new Map(
      state?.memory ??
        method.parts.flatMap((part) => (part.memory ? [[part, part.memory.create(context)] as const] : [])),
    );
    this.#tokens = [...(state?.tokens ?? [])];
    this.#lastLogits = state?.lastLogits ?? null;
  }

  /** Tokens read so far; the next one has this text index. */
  get length(): number {
    return this.#tokens.length;
  }

  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /** Bytes of the cache. */
  get bytes(): number {
    return this.#cache.bytes;
  }

  /** Logits [V] after the last token read, or null before the first. */
  get lastLogits(): Float32Array | null {
    return this.#lastLogits;
  }

  /** How many more tokens fit; Infinity when the method evicts. */
  get room(): number {
    return this.layout.pinned < this.layout.capacity ? Infinity : this.layout.capacity - this.length;
  }

  /** The plan for queries [first, first + count) of a layer, in a text of `length` tokens. */
  plan(query: {
    readonly first: number;
    readonly count: number;
    readonly layer: number;
    readonly length?: number;
  }): AttentionPlan {
    return this.method.plan({ ...this.model.context, ...query, length: query.length ?? query.first + query.count });
  }

  /** Reads tokens chunk by chunk and answers with the logits asked for, chunk by chunk. */
  async *forward(ids: readonly number[], options: ForwardOptions = {}): AsyncGenerator<LogitChunk, void, undefined> {
    const { signal, onProgress, capture } = options;
    const logitRows = Math.min(options.logitRows ?? 1, ids.length);
    this.#checkIds(ids);
    if (this.#busy)
      throw new LongctxError(
        "argument",
        "This session is already reading; await one call before the next, or fork it.",
      );
    this.#busy = true;
    try {
      const length = options.length ?? this.length + ids.length;
      const rawKeys =
        this.method.lengthDependentOn(this.model.context) ||
        this.method.parts.some((part) => part.select || part.memory);
      for (let done = 0; done < ids.length;) {
        if (signal?.aborted) throw new LongctxError("aborted", `Stopped after ${this.length} tokens, as asked.`);
        const count = Math.min(this.chunk, ids.length - done);
        const first = this.length;
        const rows = Math.max(0, count - Math.max(0, ids.length - logitRows - done));
        const part = ids.slice(done, done + count);
        const plans = new Map<number | null, AttentionPlan>();
        const plan = (layer: number): AttentionPlan => {
          // Layers differ only in the checkpoint's own window, so most models need one plan a chunk.
          const key = this.model.config.slidingWindows[layer] ?? null;
          const known = plans.get(key) ?? this.plan({ first, count, layer, length });
          plans.set(key, known);
          return known;
        };
        const hooks = layerHooks(this.model.config, this.method, this.#memory, plan, capture);
        const logits = await this.model.backend.forward({
          cache: this.#cache,
          ids: part,
          plan,
          logitRows: rows,
          rawKeys,
          hooks,
        });
        this.#tokens.push(...part);
        done += count;
        this.#lastLogits = null;
        if (rows > 0) {
          if (done === ids.length) this.#lastLogits = logits.slice((rows - 1) * this.model.config.vocabSize);
          yield { first: first + count - rows, rows, logits };
        }
        onProgress?.(done, ids.length);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Reads tokens; the logits of the last `logitRows` rows, [rows, V], the caller's own. */
  async prefill(ids: readonly number[], options: ForwardOptions = {}): Promise<Float32Array> {
    const rows = Math.min(options.logitRows ?? 1, ids.length);
    const { vocabSize } = this.model.config;
    const all = new Float32Array(rows * vocabSize);
    const begin = this.length + ids.length - rows;
    for await (const { first, logits } of this.forward(ids, options)) all.set(logits, (first - begin) * vocabSize);
    return all;
  }

  /** Continues the text. The last token of a generation is not read into the cache; hand it in with what follows. */
  generate(options: GenerationOptions = {}): Generation {
    return new Generation(this, options);
  }

  /** A second session that continues from here; neither sees what the other reads. */
  fork(): Session {
    const memory = new Map([...this.#memory].map(([method, state]) => [method, state.fork()] as const));
    return new Session(this.model, this.method, this.options, {
      cache: this.#cache.fork(),
      memory,
      tokens: this.#tokens,
      lastLogits: this.#lastLogits,
    });
  }

  /** Forget everything after the first `length` tokens. */
  truncate(length: number): void {
    this.#cache.truncate(length);
    for (const state of this.#memory.values()) state.truncate(length);
    this.#tokens.length = length;
    this.#lastLogits = null;
  }

  /** The session's tokens, cache and memories as bytes; `LanguageModel.restoreSession` takes them. */
  save(): Uint8Array {
    return saveSession(this, {
      cache: this.#cache,
      memory: this.#memory,
      tokens: this.#tokens,
      lastLogits: this.#lastLogits,
    });
  }

  dispose(): void {
    this.#cache.dispose();
  }

  #checkIds(ids: readonly number[]): void {
    const { vocabSize } = this.model.config;
    if (ids.length === 0) throw new LongctxError("argument", "There are no tokens to read; give at least one id.");
    const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (wrong >= 0)
      throw new LongctxError(
        "argument",
        `Token ${wrong} has the id ${ids[wrong]}, but the model's ids go from 0 to ${vocabSize - 1}.`,
      );
    if (ids.length > this.room) {
      throw new LongctxError(
        "capacity",
        `The text has ${this.length + ids.length} tokens, but the cache holds ${this.layout.capacity}. Give a capacity of at least ${this.length + ids.length}, a shorter text, or a method that bounds the cache (streaming).`,
      );
    }
  }
}
