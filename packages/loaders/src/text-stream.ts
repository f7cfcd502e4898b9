import type { Tokenizer } from "@longctx/core";

/** Token ids in, readable text out, as soon as it is certain. */
export interface TextStream {
  /** The text that this token completes; "" while a character is unfinished. */
  push(id: number): string;
  /** What is left, broken characters included; the stream starts anew. */
  flush(): string;
}

/** Tokens whose text stays uncertain, one after another, before the stream stops looking back at them. */
const MAX_UNCERTAIN = 64;

/**
 * Decodes a text token by token. Nothing half is given out: bytes wait for the character's last one, and a last character
 * beyond ASCII waits for the next token, which may extend it (an accent, a skin tone, the second half of a flag).
 * All that is given out, joined, is `tokenizer.decode` of all ids.
 * `after` are the tokens before the first (the end of a prompt); with them a SentencePiece text keeps its first space.
 */
export function textStream(
  tokenizer: Tokenizer,
  options: { after?: readonly number[]; skipSpecial?: boolean } = {},
): TextStream {
  const decode = (ids: readonly number[]) => tokenizer.decode(ids, { skipSpecial: options.skipSpecial ?? true });
  const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });
  // How a token reads depends on the tokens before it, but not on those before the last whole character.
  let certain: readonly number[] = options.after?.slice(-MAX_UNCERTAIN) ?? [];
  let pending: number[] = [];
  let taken = 0;
  let held = "";

  const pendingText = () => decode([...certain, ...pending]).slice(decode(certain).length);

  return {
    push(id) {
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
      const last = [...graphemes.segment(held)].at(-1)?.segment ?? "";
      const ready = isAscii(last) ? held : held.slice(0, held.length - last.length);
      held = held.slice(ready.length);
      return ready;
    },
    flush() {
      const rest = held + pendingText().slice(taken);
      certain = pending = [];
      taken = 0;
      held = "";
      return rest;
    },
  };
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}
