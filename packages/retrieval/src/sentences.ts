import type { Interval, Tokenizer } from "@longctx/core";

const segmenter = new Intl.Segmenter("en", { granularity: "sentence" });

/** A sentence does not end behind these abbreviations, whatever follows. */
const ABBREVIATION = /(?<!\p{L})(Mr|Mrs|Dr|St|Hon|Esq|Capt|Col|Messrs|[A-HJ-Z])\.\s*$/u;

/** A line of fewer characters than this is not wrapped: it ends its sentence. */
const WRAPPED = 40;

/** Where sentences end in a text without capitals: after a full stop, whatever follows. */
const AFTER_STOP = /(?<=[.!?]\s)(?=\S)/u;

/**
 * Splits a text into sentences, which are the text when joined. An empty line ends a sentence, and so does the end of a
 * line that is too short to be wrapped; other line ends count as spaces. The rest are the rules of Unicode (UAX 29)
 * without breaks after common English abbreviations; where a sentence would have no capital letter, as in lower-case
 * text, each full stop ends one.
 */
export function splitSentences(text: string): string[] {
  const sentences: string[] = [];
  let at = 0;
  for (const paragraph of paragraphsOf(text)) {
    // A newline ends a sentence under UAX 29, so that wrapped lines are segmented with spaces in their place.
    const oneLine = paragraph.replace(/\r?\n/g, (end) => " ".repeat(end.length));
    let joining = false;
    for (const { segment } of segmenter.segment(oneLine))
      for (const piece of /\p{Lu}/u.test(segment) ? [segment] : segment.split(AFTER_STOP)) {
        const own = text.slice(at, (at += piece.length));
        if (joining) sentences[sentences.length - 1] += own;
        else sentences.push(own);
        joining = ABBREVIATION.test(piece);
      }
  }
  return sentences;
}

/** Splits a text behind empty lines and behind lines that are too short to be wrapped. */
function paragraphsOf(text: string): string[] {
  const paragraphs: string[] = [];
  let open = "";
  for (const line of text.split(/(?<=\n)/)) {
    // Blank lines belong to the paragraph before them.
    if (open !== "" && line.trim() !== "" && ended(open)) {
      paragraphs.push(open);
      open = "";
    }
    open += line;
  }
  return open === "" ? paragraphs : [...paragraphs, open];
}

function ended(paragraph: string): boolean {
  const last = paragraph.slice(paragraph.lastIndexOf("\n", paragraph.length - 2) + 1);
  return last.endsWith("\n") && last.trim().length < WRAPPED;
}

/**
 * Returns the tokens of each sentence of a tokenized text: consecutive ranges of places in `ids` that cover all of them.
 * A token belongs to the sentence in which its first visible character stands.
 */
export function sentenceSpans(tokenizer: Tokenizer, ids: readonly number[]): Interval[] {
  const { text, begins } = placesOf(tokenizer, ids);
  const spans: Interval[] = [];
  let [from, to, end] = [0, 0, 0];
  for (const sentence of splitSentences(text)) {
    end += sentence.length;
    while (to < ids.length && (end === text.length || begins[to] < end)) to++;
    if (to > from) spans.push({ from, to });
    from = to;
  }
  if (from < ids.length) spans.push({ from, to: ids.length }); // tokens without any text
  return spans;
}

/** Tokens without a whole character, one after another, before they are taken as they are. */
const MAX_UNCERTAIN = 8;

/** Returns the text of tokens, and for each token the place of its first visible character in that text. */
function placesOf(tokenizer: Tokenizer, ids: readonly number[]): { text: string; begins: number[] } {
  let text = "";
  const begins: number[] = [];
  // How a token reads depends on the token before it: decoders join and split words by it.
  let before: readonly number[] = [];
  for (let from = 0, to = 1; from < ids.length; to++) {
    const pending = ids.slice(from, to);
    const piece = tokenizer.decode([...before, ...pending]).slice(tokenizer.decode(before).length);
    if (piece.endsWith("\uFFFD") && to < ids.length && pending.length < MAX_UNCERTAIN) continue; // half a character
    const place = text.length + Math.max(0, piece.search(/\S/));
    for (; from < to; from++) begins[from] = place;
    text += piece;
    if (piece !== "") before = pending;
  }
  return { text, begins };
}
