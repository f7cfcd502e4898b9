import type { BlockReads, ForwardRequest, SequenceState, StateBytes } from "../backend/backend.ts";
import type { Capture } from "./capture.ts";
import { chunkPlans } from "../method/chunk-plans.ts";
import type { Composition } from "../method/composition.ts";
import { LongctxError } from "../common/errors.ts";
import {
  checkBeginning,
  checkIds,
  checkLength,
  checkRoom,
  checkRows,
  checkStop,
  checkTruncation,
} from "../backend/forward-checks.ts";
import { Generation, type GenerationOptions } from "./generation.ts";
import { layerHooks } from "./hooks.ts";
import type { Method, MethodState, RingLayout } from "../method/method.ts";
import { Occupancy } from "./occupancy.ts";
import type { AttentionPlan } from "../method/plan.ts";
import type { Draw } from "../text/sampling.ts";
import { goOnUnder } from "./other-methods.ts";
import { saveSession } from "./saved-session.ts";
import { compositionOf, layoutOf } from "./session-layout.ts";
import type {
  ForkOptions,
  ForwardOptions,
  LogitChunk,
  SessionModel,
  SessionOptions,
  SessionParts,
} from "./session-types.ts";
import { checkReadOn, type StoppedPass } from "./stopped-pass.ts";
import { takeBack } from "./take-back.ts";

/**
 * A sequence of tokens with its state on the device and its methods. When reading fails within a chunk (a hook throws,
 * the device is lost), the session goes back to the end of the chunk before; where it cannot, because tokens were
 * evicted or a memory was written, it refuses every further call.
 */
export class Session {
  readonly model: SessionModel;
  readonly method: Composition;
  readonly options: SessionOptions;
  /** The largest number of prompt tokens that are computed at once. */
  readonly chunk: number;
  /** The layout of each layer's ring buffer. */
  readonly layouts: readonly RingLayout[];
  readonly #trunkLayouts: readonly RingLayout[] | undefined;
  readonly #state: SequenceState;
  #hooks: ReadonlyMap<Method, MethodState>;
  readonly #tokens: number[];
  /** The length N of the first prompt in tokens; 0 before it is read. */
  #promptLength: number;
  #lastLogits: Float32Array | null;
  /** Copies the last logits from the device to the host; null where the host has them. */
  #fetchLogits: (() => Promise<Float32Array>) | null = null;
  readonly #occupancy: Occupancy;
  /** Null where all layers have read all tokens. */
  #stopped: StoppedPass | null;

  constructor(model: SessionModel, method: Composition, options: SessionOptions, parts?: SessionParts) {
    const { backend, context } = model;
    const { chunk, layouts } = layoutOf(model, method, options);
    this.model = model;
    this.method = method;
    this.options = options;
    this.chunk = chunk;
    this.layouts = parts?.layouts ?? layouts;
    this.#trunkLayouts = parts?.layouts;
    this.#state = parts?.state ?? backend.createState(layouts, options);
    this.#occupancy = new Occupancy(() => this.#state.dispose());
    this.#hooks = new Map(
      parts?.hooks ?? method.parts.flatMap((part) => (part.hook ? [[part, part.hook.create(context)] as const] : [])),
    );
    this.#tokens = [...(parts?.tokens ?? [])];
    this.#promptLength = parts?.promptLength ?? 0;
    this.#lastLogits = parts?.lastLogits ?? null;
    this.#stopped = parts?.stopped ?? null;
  }

  /** The number of tokens read so far, which is the text index of the next token. */
  get length(): number {
    return this.#tokens.length;
  }

  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /** The ring layout of layer 0, which holds for all layers under methods that treat layers alike. */
  get layout(): RingLayout {
    return this.layouts[0];
  }

  /** The bytes of the session's state on the device. */
  get bytes(): number {
    return this.#state.bytes;
  }

  /**
   * The bytes of the session's state by part: ring buffers, old keys and values outside of them, index of blocks,
   * compressive memory.
   */
  get bytesByPart(): StateBytes {
    return this.#state.bytesByPart;
  }

  /** How often old blocks were read from outside of the ring buffers; null where the backend keeps none there. */
  get blockReads(): BlockReads | null {
    return this.#state.blockReads ?? null;
  }

  /** Logits [V] after the last token; null before the first token, and while a generation keeps them on the device. */
  get lastLogits(): Float32Array | null {
    return this.#lastLogits;
  }

  /** The number of tokens that still fit into the KV cache; Infinity when the method evicts tokens in every layer. */
  get room(): number {
    return this.#state.rings.room;
  }

  /** Returns a layer's attention plan for queries [first, first + count) in a text of `length` tokens. */
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

  /** Reads tokens chunk by chunk and yields the requested logits of each chunk; none in a pass that stops at a layer. */
  async *forward(ids: readonly number[], options: ForwardOptions = {}): AsyncGenerator<LogitChunk, void, undefined> {
    const { signal, onProgress, capture, stopAfter } = options;
    const { config } = this.model;
    this.#occupancy.check();
    checkIds(ids, config.vocabSize);
    checkStop(stopAfter, options.logitRows, config.layerCount);
    checkReadOn(this.#stopped, this.length, stopAfter);
    checkRoom(ids.length, this.length, this.room);
    if (this.length === 0) checkBeginning(ids.length, this.method);
    capture?.check(config);
    const logitRows = stopAfter === undefined ? checkRows(options.logitRows, ids.length) : 0;
    const length = checkLength(options.length, this.length + ids.length);
    if (this.length === 0) this.#promptLength = length;
    this.#occupancy.begin();
    try {
      for (let done = 0; done < ids.length;) {
        if (signal?.aborted) throw new LongctxError("aborted", `Stopped after ${this.length} tokens, as asked.`);
        const first = this.length;
        const count = this.nextChunk(ids.length - done);
        const rows = Math.max(0, count - Math.max(0, ids.length - logitRows - done));
        const part = ids.slice(done, done + count);
        const logits = await this.#read(part, { first, length, capture }, async (request) =>
          (await this.model.backend.forward({ ...request, logitRows: rows, stopAfter })).slice(),
        );
        if (stopAfter !== undefined) this.#stopped = { layer: stopAfter, whole: this.#stopped?.whole ?? first };
        this.#fetchLogits = null;
        for (const id of part) this.#tokens.push(id);
        done += count;
        this.#lastLogits = rows > 0 && done === ids.length ? logits.slice(-config.vocabSize) : null;
        if (rows > 0) yield { first: first + count - rows, rows, logits };
        onProgress?.(done, ids.length);
      }
    } finally {
      this.#occupancy.end();
    }
  }

  /**
   * Returns how many of the next `left` tokens one chunk takes: at most a group, and no token after a ring's
   * wrap-around. Calls that read this many tokens each form the same chunks as one call that reads all tokens.
   */
  nextChunk(left: number): number {
    const first = this.length;
    const { groupSize, readAtOnce } = this.method;
    const wanted = groupSize ? groupSize - (first % groupSize) : this.chunk;
    return Math.min(first === 0 ? Math.max(wanted, readAtOnce) : wanted, left, this.#state.rings.consecutive);
  }

  /** Reads a token and returns the next one, chosen on the device; the logits stay there until `settle` is called. */
  async readAndDraw(id: number, draws: (text: readonly number[]) => Draw): Promise<number> {
    this.#occupancy.check();
    checkIds([id], this.model.config.vocabSize);
    checkReadOn(this.#stopped, this.length);
    checkRoom(1, this.length, this.room);
    this.#occupancy.begin();
    const first = this.length;
    try {
      this.#tokens.push(id); // the repetition penalty of `draws` counts this token too
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

  /** Copies the last logits to the host, if they are still on the device. */
  async settle(): Promise<void> {
    const fetch = this.#fetchLogits;
    this.#fetchLogits = null;
    if (!fetch || this.#occupancy.disposed) return;
    try {
      this.#lastLogits = (await fetch()).slice();
    } catch (error) {
      // A lost device is reported by the next call on it instead, because the text generated so far is complete.
      if (!(error instanceof LongctxError && error.code === "device")) throw error;
    }
  }

  /** Runs one chunk; `act` calls the backend and copies the logits, since other sessions' calls may overwrite them. */
  async #read<Result>(
    ids: readonly number[],
    { first, length, capture }: { readonly first: number; readonly length: number; readonly capture?: Capture },
    act: (request: Omit<ForwardRequest, "logitRows">) => Promise<Result>,
  ): Promise<Result> {
    const { config, context } = this.model;
    const { parts } = this.method;
    const chunk = { ...context, first, count: ids.length, length, promptLength: this.#promptLength };
    const plan = chunkPlans(this.method, chunk);
    const hooks = layerHooks(config, this.#hooks, capture, chunk);
    const rawKeys = this.method.lengthDependentOn(context) || parts.some((part) => part.rawKeys || part.hook);
    try {
      return await act({ state: this.#state, ids, plan, rawKeys, hooks });
    } catch (cause) {
      takeBack({ state: this.#state, hooks: this.#hooks, method: this.method, context }, first, this.#occupancy, cause);
      throw cause;
    }
  }

  /**
   * Reads tokens and returns logits [rows, V] of the last `logitRows` tokens, in an array that the caller owns; none
   * where the pass stops at a layer.
   */
  async prefill(ids: readonly number[], options: ForwardOptions = {}): Promise<Float32Array> {
    const rows = options.stopAfter === undefined ? checkRows(options.logitRows, ids.length) : 0;
    const { vocabSize } = this.model.config;
    const all = new Float32Array(rows * vocabSize);
    const begin = this.length + ids.length - rows;
    for await (const { first, logits } of this.forward(ids, options)) all.set(logits, (first - begin) * vocabSize);
    return all;
  }

  /** Generates a continuation; its last token is not read into the state, so a caller that goes on has to pass it. */
  generate(options: GenerationOptions = {}): Generation {
    return new Generation(this, options);
  }

  /**
   * Makes an independent second session that continues from the same tokens, with this session's keys, values and rings;
   * what it reads attends by `method`, where that is given.
   * @throws LongctxError "method" where this session does not keep what the other methods need of the text
   */
  fork({ method: given }: ForkOptions = {}): Session {
    this.#occupancy.check();
    const parts = this.#parts;
    const method = given === undefined ? this.method : compositionOf(given);
    const options = given === undefined ? this.options : { ...this.options, method };
    const other =
      given === undefined ? { state: this.#state.fork(), hooks: this.#forkHooks() } : goOnUnder(method, this, parts);
    return new Session(this.model, method, options, { ...parts, ...other });
  }

  get #parts(): SessionParts {
    return {
      state: this.#state,
      layouts: this.#trunkLayouts,
      hooks: this.#hooks,
      tokens: this.#tokens,
      promptLength: this.#promptLength,
      lastLogits: this.#lastLogits,
      stopped: this.#stopped,
    };
  }

  /** Forgets all but the first `length` tokens. @throws LongctxError, with nothing changed, when the state cannot */
  truncate(length: number): void {
    this.#occupancy.check();
    checkTruncation(length, this.length, this.method);
    if (length === this.length) return;
    // Hooks are truncated as copies, so that nothing has changed if a hook or the state refuses.
    const hooks = this.#forkHooks();
    for (const state of hooks.values()) state.truncate(length);
    this.#state.truncate(length);
    this.#hooks = hooks;
    this.#tokens.length = length;
    this.#lastLogits = this.#fetchLogits = null;
    if (this.#stopped && length <= this.#stopped.whole) this.#stopped = null;
  }

  /** Returns the session's tokens, state and hooks as bytes, which `LanguageModel.restoreSession` takes. */
  async save(): Promise<Uint8Array> {
    checkReadOn(this.#stopped, this.length);
    this.#occupancy.begin();
    try {
      await this.settle();
      return await saveSession(this.model, this.method, this.#parts);
    } finally {
      this.#occupancy.end();
    }
  }

  /** Frees the state, now or when a running call ends; the session cannot be used afterwards. */
  dispose(): void {
    this.#occupancy.dispose();
  }

  #forkHooks(): ReadonlyMap<Method, MethodState> {
    return new Map([...this.#hooks].map(([method, state]) => [method, state.fork()] as const));
  }
}
