import type { Cache, ForwardRequest } from "../backend/backend.ts";
import type { Capture } from "./capture.ts";
import { chunkPlans } from "../method/chunk-plans.ts";
import type { Composition } from "../method/composition.ts";
import { LongctxError } from "../common/errors.ts";
import { checkBeginning, checkIds, checkLength, checkRows, checkTruncation } from "../backend/forward-checks.ts";
import { Generation, type GenerationOptions } from "./generation.ts";
import { layerHooks } from "./hooks.ts";
import type { Method, MethodState } from "../method/method.ts";
import type { LanguageModel } from "./model.ts";
import { Occupancy } from "./occupancy.ts";
import type { AttentionPlan } from "../method/plan.ts";
import type { Draw } from "../text/sampling.ts";
import { saveSession } from "./saved-session.ts";
import { layoutOf } from "./session-layout.ts";
import type { ForwardOptions, LogitChunk, SessionOptions, SessionState } from "./session-types.ts";
import type { CacheLayout } from "../state/slots.ts";

/**
 * One sequence: its tokens, its cache, and the methods it is read under. When reading fails in the middle of a chunk (a
 * hook throws, the device is lost), the chunk is taken back and the session is as it was before it; where that is
 * impossible, because tokens were evicted or a memory was written, every further use is refused.
 */
export class Session {
  readonly model: LanguageModel;
  readonly method: Composition;
  readonly options: SessionOptions;
  readonly chunk: number;
  readonly layout: CacheLayout;
  readonly #cache: Cache;
  #memory: ReadonlyMap<Method, MethodState>;
  readonly #tokens: number[];
  /** N of the first prompt; 0 before it. */
  #promptLength: number;
  #lastLogits: Float32Array | null;
  /** Fetches the last logits, where the device kept them. */
  #fetchLogits: (() => Promise<Float32Array>) | null = null;
  readonly #occupancy: Occupancy;

  constructor(model: LanguageModel, method: Composition, options: SessionOptions, state?: SessionState) {
    const { backend, context } = model;
    const { chunk, layout } = layoutOf(model, method, options);
    this.model = model;
    this.method = method;
    this.options = options;
    this.chunk = chunk;
    this.layout = layout;
    this.#cache = state?.cache ?? backend.createCache(this.layout);
    this.#occupancy = new Occupancy(() => this.#cache.dispose());
    this.#memory = new Map(
      state?.memory ??
        method.parts.flatMap((part) => (part.memory ? [[part, part.memory.create(context)] as const] : [])),
    );
    this.#tokens = [...(state?.tokens ?? [])];
    this.#promptLength = state?.promptLength ?? 0;
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

  /** Logits [V] after the last token read; null before the first, and while a generation leaves them on the device. */
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
    const length = query.length ?? query.first + query.count;
    const promptLength = this.length > 0 ? this.#promptLength : length;
    return this.method.plan({ ...this.model.context, ...query, length, promptLength });
  }

  /** Reads tokens chunk by chunk and answers with the logits asked for, chunk by chunk. */
  async *forward(ids: readonly number[], options: ForwardOptions = {}): AsyncGenerator<LogitChunk, void, undefined> {
    const { signal, onProgress, capture } = options;
    this.#occupancy.check();
    checkIds(ids, this.model.config.vocabSize);
    this.#checkRoom(ids.length);
    if (this.length === 0) checkBeginning(ids.length, this.method);
    const logitRows = checkRows(options.logitRows, ids.length);
    const length = checkLength(options.length, this.length + ids.length);
    if (this.length === 0) this.#promptLength = length;
    this.#occupancy.begin();
    try {
      for (let done = 0; done < ids.length;) {
        if (signal?.aborted) throw new LongctxError("aborted", `Stopped after ${this.length} tokens, as asked.`);
        const first = this.length;
        // A chunk ends with the ring at the latest, so that hooks stop at the same places on every device.
        const slots = this.layout.capacity - this.#cache.slots.slotOf(first);
        const chunk = first === 0 ? Math.max(this.chunk, this.method.readAtOnce) : this.chunk;
        const count = Math.min(chunk, ids.length - done, slots);
        const rows = Math.max(0, count - Math.max(0, ids.length - logitRows - done));
        const part = ids.slice(done, done + count);
        const logits = await this.#read(part, { first, length, capture }, async (request) =>
          (await this.model.backend.forward({ ...request, logitRows: rows })).slice(),
        );
        this.#fetchLogits = null;
        for (const id of part) this.#tokens.push(id);
        done += count;
        this.#lastLogits = rows > 0 && done === ids.length ? logits.slice(-this.model.config.vocabSize) : null;
        if (rows > 0) yield { first: first + count - rows, rows, logits };
        onProgress?.(done, ids.length);
      }
    } finally {
      this.#occupancy.end();
    }
  }

  /**
   * Reads a token and answers with the one after it, chosen on the device (`Backend.sample`); the logits stay there until
   * `settle`. Generations use it.
   */
  async readAndDraw(id: number, draws: (text: readonly number[]) => Draw): Promise<number> {
    this.#occupancy.check();
    checkIds([id], this.model.config.vocabSize);
    this.#checkRoom(1);
    this.#occupancy.begin();
    const first = this.length;
    try {
      this.#tokens.push(id); // a draw looks at the text up to here
      const next = await this.#read([id], { first, length: first + 1 }, (request) =>
        this.model.backend.sample!({ ...request, logitRows: 1 }, draws(this.#tokens)),
      );
      this.#lastLogits = null;
      this.#fetchLogits = next.logits;
      return next.id;
    } catch (error) {
      this.#tokens.length = first;
      throw error;
    } finally {
      this.#occupancy.end();
    }
  }

  /** Fetches the last logits if the device still has them. */
  async settle(): Promise<void> {
    const fetch = this.#fetchLogits;
    this.#fetchLogits = null;
    if (!fetch || this.#occupancy.disposed) return;
    try {
      this.#lastLogits = (await fetch()).slice();
    } catch (error) {
      // A device that is gone says so when it is asked to read; the text that was generated is whole.
      if (!(error instanceof LongctxError && error.code === "device")) throw error;
    }
  }

  /** One chunk; what `act` answers is the caller's own, since other sessions of the model may read before it is looked at. */
  async #read<Result>(
    ids: readonly number[],
    { first, length, capture }: { readonly first: number; readonly length: number; readonly capture?: Capture },
    act: (request: Omit<ForwardRequest, "logitRows">) => Promise<Result>,
  ): Promise<Result> {
    const { config, context } = this.model;
    const { parts } = this.method;
    const chunk = { ...context, first, count: ids.length, length, promptLength: this.#promptLength };
    const plan = chunkPlans(this.method, chunk);
    const hooks = layerHooks(config, this.method, this.#memory, plan, capture);
    const rawKeys = this.method.lengthDependentOn(context) || parts.some((part) => part.select || part.memory);
    try {
      return await act({ cache: this.#cache, ids, plan, rawKeys, hooks });
    } catch (cause) {
      this.#takeBack(first, cause);
      throw cause;
    }
  }

  /** After a chunk that failed: the cache may hold some of it, which the text does not. */
  #takeBack(length: number, cause: unknown): void {
    if (this.#cache.slots.length === length) return; // it was refused before it began
    // A memory may have seen half of the chunk, and nobody can tell which half.
    if (this.#memory.size === 0) {
      try {
        return this.#cache.truncate(length);
      } catch {
        // Tokens were evicted to make room for the chunk.
      }
    }
    const keeper = this.#memory.size > 0 ? "memory" : "bounded cache";
    this.#occupancy.breakFor(
      `Reading failed after ${length} tokens and left a chunk half read, which its ${keeper} cannot take back. Start another session, or fork before reading what may fail.`,
      cause,
    );
  }

  /** Reads tokens; the logits of the last `logitRows` rows, [rows, V], the caller's own. */
  async prefill(ids: readonly number[], options: ForwardOptions = {}): Promise<Float32Array> {
    const rows = checkRows(options.logitRows, ids.length);
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
    this.#occupancy.check();
    return new Session(this.model, this.method, this.options, {
      cache: this.#cache.fork(),
      memory: this.#forkMemory(),
      tokens: this.#tokens,
      promptLength: this.#promptLength,
      lastLogits: this.#lastLogits,
    });
  }

  /** Forget everything after the first `length` tokens. @throws LongctxError when the cache or a memory cannot; nothing is changed then */
  truncate(length: number): void {
    this.#occupancy.check();
    checkTruncation(length, this.length, this.method);
    if (length === this.length) return;
    // Copies of the memories, so that all is as it was if one of them, or the cache, refuses.
    const memory = this.#forkMemory();
    for (const state of memory.values()) state.truncate(length);
    this.#cache.truncate(length);
    this.#memory = memory;
    this.#tokens.length = length;
    this.#lastLogits = this.#fetchLogits = null;
  }

  /** The session's tokens, cache and memories as bytes; `LanguageModel.restoreSession` takes them. */
  async save(): Promise<Uint8Array> {
    this.#occupancy.begin();
    try {
      await this.settle();
      return await saveSession(this, {
        cache: this.#cache,
        memory: this.#memory,
        tokens: this.#tokens,
        promptLength: this.#promptLength,
        lastLogits: this.#lastLogits,
      });
    } finally {
      this.#occupancy.end();
    }
  }

  /** Frees the cache, at the end of the chunks being read if there are any. The session cannot be used any more. */
  dispose(): void {
    this.#occupancy.dispose();
  }

  #forkMemory(): ReadonlyMap<Method, MethodState> {
    return new Map([...this.#memory].map(([method, state]) => [method, state.fork()] as const));
  }

  #checkRoom(count: number): void {
    if (count > this.room)
      throw new LongctxError(
        "capacity",
        `The text has ${this.length + count} tokens, but the cache holds ${this.layout.capacity}. Give a capacity of at least ${this.length + count}, a shorter text, or a method that bounds the cache (streaming).`,
      );
  }
}
