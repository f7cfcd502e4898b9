import { LongctxError } from "../common/errors.ts";
import { drawToken, makeDraws, type SamplingOptions } from "../text/sampling.ts";
import type { Session } from "./session.ts";
import { textStream } from "../text/text-stream.ts";

export interface GenerationOptions extends SamplingOptions {
  /** Read before the first token is drawn; without it the session's last logits are used. */
  readonly prompt?: readonly number[];
  /** At most this many new tokens; 128 unless given. */
  readonly maxNew?: number;
  /** Token ids that end the text; the model's own unless given. */
  readonly stopTokens?: readonly number[];
  /** Texts that end the text; what was generated of them is not yielded. */
  readonly stop?: readonly string[];
  readonly signal?: AbortSignal;
  readonly onPrefill?: (done: number, total: number) => void;
}

export interface GeneratedToken {
  /** Once more that of the last token where only text that was held back is left to give. */
  readonly id: number;
  /** The text that is complete with this token; may be empty. Always empty without a tokenizer. */
  readonly text: string;
}

/** Why a generation ended: a stop token or text, its length, a full cache, or the caller's signal. */
export type FinishReason = "stop" | "length" | "capacity" | "aborted";

/**
 * The tokens of a continuation as they come: `for await (const { text } of session.generate(…))`. It runs once. A signal
 * ends it with the reason "aborted"; while the prompt is still being read, that is thrown as an error too.
 */
export class Generation implements AsyncIterable<GeneratedToken> {
  readonly #session: Session;
  readonly #options: GenerationOptions;
  #begun = false;
  /** Set when the iteration has ended. */
  reason: FinishReason | null = null;
  /** Ids so far, without the stop token. */
  readonly ids: number[] = [];
  /** Text so far. */
  text = "";

  constructor(session: Session, options: GenerationOptions) {
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

  /** Runs to the end; the whole text. */
  async complete(): Promise<string> {
    for await (const token of this) void token;
    return this.text;
  }
}
