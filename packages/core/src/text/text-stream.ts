import type { Tokenizer } from "./tokenizer.ts";

export interface TextStreamOptions {
  /** The tokens before the first (the end of a prompt); with them a SentencePiece text keeps its first space. */
  readonly after?: readonly number[];
  /** Leave out special tokens; true unless given. */
  readonly skipSpecial?: boolean;
  /** Texts that end the text; neither they nor what follows is given out. The one that is complete first counts. */
  readonly stop?: readonly string[];
}

/** Token ids in, readable text out, as soon as it is certain. */
export interface TextStream {
  /** The text that this token makes certain; "" while a character is unfinished or a stop text may have begun. */
  push(id: number): string;
  /** What is left, broken characters included; the stream starts anew, but stays stopped. */
  flush(): string;
  /** A stop text was met: from then on there is no more text. */
  readonly stopped: boolean;
}

/** Tokens whose text stays uncertain, one after another, before the stream stops looking back at them. */
const MAX_UNCERTAIN = 64;

/**
 * Decodes a text token by token. Nothing half is given out: bytes wait for the character's last one, and a last character
 * beyond ASCII waits for the next token, which may extend it (an accent, a skin tone, the second half of a flag). The
 * beginning of a stop text waits too. All that is given out, joined, is `tokenizer.decode` of all ids up to a stop text.
 */
export function textStream(tokenizer: Tokenizer, options: TextStreamOptions = {}): TextStream {
  const decode = (ids: readonly number[]) => tokenizer.decode(ids, { skipSpecial: options.skipSpecial ?? true });
  const stops = (options.stop ?? []).filter((stop) => stop !== "");
  // How a token reads depends on the tokens before it, but not on those before the last whole character.
  let certain: readonly number[] = options.after?.slice(-MAX_UNCERTAIN) ?? [];
  let pending: number[] = [];
  let taken = 0;
  let held = "";
  let stopped = false;

  const pendingText = () => decode([...certain, ...pending]).slice(decode(certain).length);
  const release = (wait: (text: string) => number): string => {
    const cut = firstStop(held, stops);
    stopped ||= cut !== null;
    const ready = held.slice(0, cut ?? held.length - wait(held));
    held = stopped ? "" : held.slice(ready.length);
    return ready;
  };

  return {
    push(id) {
      if (stopped) return "";
      pending.push(id);
      const text = pendingText();
      // Of several broken characters at the end only the last can still become whole.
      const whole = text.endsWith("\uFFFD") ? text.slice(0, -1) : text;
      held += whole.slice(taken);
      taken = whole.length;
      if ((text !== "" && whole === text) || pending.length >= MAX_UNCERTAIN) {
        held += text.slice(taken);
        if (text !== "") certain = pending;
        pending = [];
        taken = 0;
      }
      return release((waiting) => Math.max(lastCharacter(waiting), begunStop(waiting, stops)));
    },
    flush() {
      if (stopped) return "";
      held += pendingText().slice(taken);
      certain = pending = [];
      taken = 0;
      return release(() => 0);
    },
    get stopped() {
      return stopped;
    },
  };
}

/** Where the stop text begins that is complete first, or null. */
function firstStop(text: string, stops: readonly string[]): number | null {
  let first: { readonly from: number; readonly to: number } | null = null;
  for (const stop of stops) {
    const from = text.indexOf(stop);
    const to = from + stop.length;
    if (from >= 0 && (!first || to < first.to || (to === first.to && from < first.from))) first = { from, to };
  }
  return first?.from ?? null;
}

/** Length of the longest end of the text that a stop text begins with. */
function begunStop(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let size = Math.min(stop.length - 1, text.length); size > longest; size--) {
      if (text.endsWith(stop.slice(0, size))) longest = size;
    }
  }
  return longest;
}

const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });

/** Length of the last character, if it is one that the next token may extend. */
function lastCharacter(text: string): number {
  const last = [...graphemes.segment(text)].at(-1)?.segment ?? "";
  return isAscii(last) ? 0 : last.length;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}
