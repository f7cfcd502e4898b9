import type { Interval, Tokenizer } from "@longctx/core";

/** What ends a sentence: a full stop, a question or exclamation mark, with quotes and brackets that close behind it. */
const ENDED = /[.!?…]["'”’)\]»]*$/u;
/** In scripts that put no space between sentences, the mark alone. */
const ENDED_WITHOUT_SPACE = /[。！？]["'”’）」』]*$/u;
const CLOSING = /^["'”’）」』]/u;
/** A full stop that ends no sentence. */
const ABBREVIATION = /(?<!\p{L})(Mr|Mrs|Ms|Dr|St|Hon|Esq|Capt|Col|Prof|No|[A-HJ-Z])\.$/u;
/** The number of characters before a token that decide whether a sentence ends there. */
const LOOKED_AT = 24;
/** The largest number of tokens that one character's bytes are spread over. */
const MOST_UNFINISHED = 16;

/**
 * Yields the sentences of a text as ranges of its tokens, in order and without gaps; a sentence of more than `longest`
 * tokens is cut. A sentence ends with ., ! or ? before white space, at an empty line, and at a line break unless the next
 * line goes on in lower case, as in prose that is wrapped. White space behind a sentence belongs to it where a tokenizer
 * keeps it apart. The text is decoded token by token, so that the time is linear and the memory constant.
 */
export function* sentencesOf(
  ids: readonly number[],
  tokenizer: Tokenizer,
  longest = Infinity,
): Generator<Interval, void, undefined> {
  let from = 0;
  let before = "";
  let token = 0;
  for (const piece of piecesOf(ids, tokenizer)) {
    if (token > from && (token - from >= longest || endsBefore(before, piece))) {
      yield { from, to: token };
      from = token;
    }
    before = (before + piece).slice(-LOOKED_AT);
    token++;
  }
  if (from < token) yield { from, to: token };
}

/** Returns whether a sentence ends between the text `before` and the text `next` of a token. */
function endsBefore(before: string, next: string): boolean {
  if (next.trim() === "") return false; // white space goes on with the sentence
  const sentence = before.trimEnd();
  const lines = before.slice(sentence.length).split("\n").length - 1;
  if (lines > 1) return true;
  const ended = ENDED.test(sentence) && !ABBREVIATION.test(sentence);
  if (lines === 1) return ended || !/^\s*\p{Ll}/u.test(next);
  if (ENDED_WITHOUT_SPACE.test(sentence)) return !CLOSING.test(next);
  return ended && (sentence !== before || /^\s/.test(next));
}

/** Yields what each token adds to the text; "" for tokens that only begin a character, whose last token adds it. */
function* piecesOf(ids: readonly number[], tokenizer: Tokenizer): Generator<string, void, undefined> {
  // How a token reads depends on the token before it, since some tokenizers put spaces between words.
  let before: readonly number[] = [];
  let unfinished: number[] = [];
  for (const id of ids) {
    unfinished.push(id);
    const text = tokenizer.decode([...before, ...unfinished]).slice(tokenizer.decode(before).length);
    const whole = !text.endsWith("\uFFFD") || unfinished.length >= MOST_UNFINISHED;
    yield whole ? text : "";
    if (!whole) continue;
    if (text !== "") before = unfinished;
    unfinished = [];
  }
}
