import { LongctxError } from "./errors.ts";
import { makeSampler, type SamplingOptions } from "./sampling.ts";
import type { Session } from "./session.ts";
import { TextStream } from "./text-stream.ts";

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
  readonly id: number;
  /** The text that is complete with this token; may be empty. Always empty without a tokenizer. */
  readonly text: string;
}

/** Why a generation ended: a stop token or text, its length, a full cache, or the caller's signal. */
export type FinishReason = "stop" | "length" | "capacity" | "aborted";

/** The tokens of a continuation as they come: `for await (const { text } of session.generate(…))`. */
export class Generation implements AsyncIterable<GeneratedToken> {
  readonly #session: Session;
  readonly #options: GenerationOptions;
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
    const { prompt, maxNew = 128, stop = [], signal, onPrefill } = this.#options;
    if (!Number.isInteger(maxNew) || maxNew < 0)
      throw new LongctxError("argument", `maxNew is ${maxNew}; give a whole number of at least 0.`);
    const stopTokens = new Set(this.#options.stopTokens ?? session.model.config.specialTokens.eos);
    const sampler = makeSampler(this.#options);
    const stream = session.model.tokenizer ? new TextStream(session.model.tokenizer, stop) : null;
    if (stop.length > 0 && !stream)
      throw new LongctxError("argument", "Stop texts need a tokenizer, and this checkpoint has none; use stopTokens.");
    if (prompt) {
      for await (const chunk of session.forward(prompt, { signal, onProgress: onPrefill })) void chunk;
    }
    let logits = session.lastLogits;
    if (!logits)
      throw new LongctxError("argument", "There is nothing to continue; prefill the session or give a prompt.");
    const finish = (reason: FinishReason): GeneratedToken | null => {
      this.reason = reason;
      const rest = stream?.finish() ?? "";
      this.text += rest;
      return rest ? { id: this.ids.at(-1)!, text: rest } : null;
    };
    let end: GeneratedToken | null = null;
    for (;;) {
      if (signal?.aborted) end = finish("aborted");
      else if (this.ids.length >= maxNew) end = finish("length");
      if (this.reason) break;
      const id = sampler(logits, session.tokens);
      if (stopTokens.has(id)) {
        end = finish("stop");
        break;
      }
      this.ids.push(id);
      const text = stream?.push(id) ?? "";
      this.text += text;
      yield { id, text };
      if (stream?.stopped) {
        this.reason = "stop";
        break;
      }
      if (this.ids.length >= maxNew) continue;
      if (session.room < 1) {
        end = finish("capacity");
        break;
      }
      for await (const chunk of session.forward([id])) void chunk;
      logits = session.lastLogits!;
    }
    if (end) yield end;
  }

  /** Runs to the end; the whole text. */
  async complete(): Promise<string> {
    for await (const token of this) void token;
    return this.text;
  }
}
