import { LongctxError } from "../common/errors.ts";
import { drawToken, makeDraws, type Draw, type SamplingOptions } from "../text/sampling.ts";
import type { SessionModel } from "./session-types.ts";
import { textStream } from "../text/text-stream.ts";

/** What a generation needs of the sequence that it continues; `Session` is one. */
export interface Continuable {
  readonly model: Pick<SessionModel, "backend" | "config" | "tokenizer">;
  readonly tokens: readonly number[];
  readonly lastLogits: Float32Array | null;
  readonly room: number;
  prefill(
    ids: readonly number[],
    options?: { readonly signal?: AbortSignal; readonly onProgress?: (done: number, total: number) => void },
  ): Promise<Float32Array>;
  readAndDraw(id: number, draws: (text: readonly number[]) => Draw): Promise<number>;
  settle(): Promise<void>;
}

/** How a generation samples tokens, and when it ends. */
export interface GenerationOptions extends SamplingOptions {
  /**
   * Token ids that are read before the first token is drawn; without them the first token is drawn from the session's
   * last logits.
   */
  readonly prompt?: readonly number[];
  /** The largest number of tokens to generate; 128 unless given. */
  readonly maxNew?: number;
  /** Token ids that end the generation; the model's own end tokens unless given. */
  readonly stopTokens?: readonly number[];
  /** Texts that end the generation; a stop text itself is not yielded. */
  readonly stop?: readonly string[];
  readonly signal?: AbortSignal;
  readonly onPrefill?: (done: number, total: number) => void;
}

/** One item of a generation: a token, and the text that it completes. */
export interface GeneratedToken {
  /**
   * The id of the token. The last item repeats the last id where it only brings text that was held back as a possible
   * stop text.
   */
  readonly id: number;
  /**
   * The text that this token completes; empty where characters are still incomplete, and always empty without a
   * tokenizer.
   */
  readonly text: string;
}

/**
 * Why a generation ended: a stop token or stop text, the limit on new tokens, a full KV cache, or the caller's signal.
 */
export type FinishReason = "stop" | "length" | "capacity" | "aborted";

/**
 * An iteration over generated tokens as they come: `for await (const { text } of session.generate(…))`; it runs once.
 * An abort signal ends it with the reason "aborted"; an abort while the prompt is being read also throws an error.
 */
export class Generation implements AsyncIterable<GeneratedToken> {
  readonly #session: Continuable;
  readonly #options: GenerationOptions;
  #begun = false;
  /** Why the generation ended; null while it runs. */
  reason: FinishReason | null = null;
  /** The token ids generated so far, without the stop token. */
  readonly ids: number[] = [];
  /** The text generated so far. */
  text = "";

  constructor(session: Continuable, options: GenerationOptions) {
    this.#session = session;
    this.#options = options;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, undefined> {
    const session = this.#session;
    const { prompt, maxNew = 128, stop = [], signal } = this.#options;
    const { tokenizer, config } = session.model;
    if (this.#begun)
      throw new LongctxError("argument", "A generation runs once; call generate again to continue the text.");
    this.#begun = true;
    if (!Number.isInteger(maxNew) || maxNew < 0)
      throw new LongctxError("argument", `maxNew is ${maxNew}; give a whole number of at least 0.`);
    if (stop.length > 0 && !tokenizer)
      throw new LongctxError("argument", "Stop texts need a tokenizer, and this checkpoint has none; use stopTokens.");
    const onDevice = session.model.backend.sample !== undefined;
    const draws = makeDraws(this.#options);
    const stopTokens = new Set(this.#options.stopTokens ?? config.specialTokens.eos);
    if (prompt) await this.#readPrompt(prompt);
    const stream = tokenizer ? textStream(tokenizer, { after: session.tokens, stop }) : null;
    let logits = session.lastLogits;
    if (!logits)
      throw new LongctxError("argument", "There is nothing to continue; prefill the session or give a prompt.");
    let next: number | null = null;
    if (maxNew === 0) this.reason = "length";
    try {
      while (!this.reason) {
        if (signal?.aborted) {
          this.reason = "aborted";
          break;
        }
        const id = next ?? drawToken(logits, draws(session.tokens));
        if (stopTokens.has(id)) {
          this.reason = "stop";
          break;
        }
        this.ids.push(id);
        const text = stream?.push(id) ?? "";
        this.text += text;
        yield { id, text };
        if (stream?.stopped) this.reason = "stop";
        else if (this.ids.length >= maxNew) this.reason = "length";
        else if (session.room < 1) this.reason = "capacity";
        else if (onDevice) next = await session.readAndDraw(id, draws);
        else logits = await session.prefill([id]);
      }
    } finally {
      await session.settle();
    }
    const rest = stream?.flush() ?? "";
    if (stream?.stopped) this.reason = "stop";
    this.text += rest;
    if (rest) yield { id: this.ids[this.ids.length - 1], text: rest };
  }

  async #readPrompt(prompt: readonly number[]): Promise<void> {
    const { signal, onPrefill } = this.#options;
    try {
      await this.#session.prefill(prompt, { signal, onProgress: onPrefill });
    } catch (error) {
      if (error instanceof LongctxError && error.code === "aborted") this.reason = "aborted";
      throw error;
    }
  }

  /** Generates to the end and returns the whole text. */
  async complete(): Promise<string> {
    for await (const token of this) void token;
    return this.text;
  }
}
