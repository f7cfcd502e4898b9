import type { Tokenizer } from "./tokenizer.ts";

/**
 * Text out of tokens as they come. A token may end in the middle of a character, and the end of the text may be the
 * beginning of a stop text: both are held back until it is clear what they are.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #stop: readonly string[];
  /** Tokens whose text is decoded together: some decoders treat the first token of a text differently. */
  #window: number[] = [];
  /** How many characters of the window's text are done with. */
  #done = 0;
  #held = "";
  /** A stop text was met; nothing follows. */
  stopped = false;

  constructor(tokenizer: Tokenizer, stop: readonly string[] = []) {
    this.#tokenizer = tokenizer;
    this.#stop = stop.filter((text) => text.length > 0);
  }

  /** The text that is certain with this token. */
  push(id: number): string {
    this.#window.push(id);
    const text = this.#tokenizer.decode(this.#window);
    if (text.endsWith("\uFFFD")) return ""; // an unfinished character
    const fresh = text.slice(this.#done);
    this.#done = text.length;
    if (this.#window.length > 32) {
      // The last token stays, so that the next one is not taken for the first of a text.
      this.#window = this.#window.slice(-1);
      this.#done = this.#tokenizer.decode(this.#window).length;
    }
    return this.#release(fresh);
  }

  /** What was held back, at the end of the text. */
  finish(): string {
    if (this.stopped) return "";
    const rest = this.#held + this.#tokenizer.decode(this.#window).slice(this.#done);
    this.#held = "";
    this.#window = [];
    this.#done = 0;
    return rest;
  }

  #release(fresh: string): string {
    const text = this.#held + fresh;
    const cut = Math.min(...this.#stop.map((stop) => text.indexOf(stop)).filter((at) => at >= 0), Infinity);
    if (cut < Infinity) {
      this.stopped = true;
      this.#held = "";
      return text.slice(0, cut);
    }
    let keep = 0;
    for (const stop of this.#stop) {
      for (let size = Math.min(stop.length - 1, text.length); size > keep; size--) {
        if (text.endsWith(stop.slice(0, size))) keep = size;
      }
    }
    this.#held = keep > 0 ? text.slice(-keep) : "";
    return keep > 0 ? text.slice(0, -keep) : text;
  }
}
