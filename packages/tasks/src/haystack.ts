import { LongctxError } from "@longctx/core";
import type { Draws } from "./draws.ts";
import type { TokenCounter } from "./assemble.ts";
import { NOVELS, novelText, type Novel } from "./novels.ts";

export const HAYSTACKS = ["filler", "novel"] as const;
export type HaystackName = (typeof HAYSTACKS)[number];

/** Units of text that fill a budget of tokens, each of them counted with the space before it. */
export interface Hay {
  readonly units: readonly { readonly text: string; readonly tokens: number }[];
  readonly source: string;
}

/** The unit of the published passkey test (Mohtashami and Jaggi 2023). */
const FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/** Units joined as a text. */
export function joined(units: Hay["units"]): string {
  return units.map(({ text }) => text).join(" ");
}

/** Whole copies of the published unit, as many as fit. */
export function fillerHay(counter: TokenCounter, budget: number): Hay {
  const unit = { text: FILLER, tokens: counter.count(` ${FILLER}`) };
  return { units: Array.from({ length: Math.max(0, Math.floor(budget / unit.tokens)) }, () => unit), source: "filler" };
}

/** How many sentences after one that is too long are tried in its place, so that the prompt is full. */
const LOOKAHEAD = 200;

/** A text that needles can be hidden in. */
export interface Prose {
  readonly name: string;
  readonly sentences: () => readonly string[];
}

const NOVEL_PROSE: readonly Prose[] = NOVELS.map((name) => ({ name, sentences: () => sentencesOf(name) }));

/** Any text as prose: its sentences, with their white space as single spaces. */
export function proseOf(name: string, text: string): Prose {
  const sentences = paragraphsOf(text).flatMap((paragraph) => joinAbbreviations(paragraph.split(AFTER_MARK)));
  return { name, sentences: () => sentences };
}

/**
 * Consecutive sentences of one of the texts, the novels unless given, from a random one on; a budget longer than that text
 * goes on in those behind it. Near the end sentences that are too long are passed over.
 */
export function proseHay(
  counter: TokenCounter,
  budget: number,
  draws: Draws,
  texts: readonly Prose[] = NOVEL_PROSE,
): Hay {
  const picked = draws.pick(texts);
  const sentences = picked.sentences();
  const first = draws.integer(0, Math.max(0, sentences.length - 1));
  const at = texts.indexOf(picked);
  const others = [...texts.slice(at + 1), ...texts.slice(0, at)];
  const units: Hay["units"][number][] = [];
  let left = budget;
  let passed = 0;
  for (const sentence of sentencesFrom(sentences, first, others)) {
    if (left <= 1 || passed >= LOOKAHEAD) break;
    const tokens = counter.count(` ${sentence}`);
    if (tokens > left) {
      passed++;
      continue;
    }
    units.push({ text: sentence, tokens });
    left -= tokens;
  }
  // What is left over beside sentences that were too long is no sign of a text that ended.
  if (left > 1 && passed === 0)
    throw new LongctxError(
      "argument",
      `A haystack of ${budget} tokens is longer than ${texts.map(({ name }) => name).join(" and ")}; ask for a shorter text or take the filler haystack.`,
    );
  return { units, source: `${picked.name}:${first}` };
}

/** The sentences of a text from one on, those before it, and those of the texts behind it. */
function* sentencesFrom(sentences: readonly string[], first: number, others: readonly Prose[]): Generator<string> {
  yield* sentences.slice(first);
  yield* sentences.slice(0, first);
  for (const other of others) yield* other.sentences();
}

/**
 * Returns the longest prompt, made of units from the first on, that has at most `length` tokens; null where even one unit is
 * too much. `units` were counted one by one, and a tokenizer may need one token more where two of them meet, so the loop
 * leaves units away at the end until the prompt fits: mostly none, or one or two.
 */
export function fitting<Made>(
  { units }: Hay,
  length: number,
  make: (units: Hay["units"]) => { readonly made: Made; readonly tokens: number },
): Made | null {
  for (let count = units.length; count > 0; count--) {
    const { made, tokens } = make(units.slice(0, count));
    if (tokens <= length) return made;
  }
  return null;
}

/** Returns how many units stand before a needle at `depth` %: the most that have at most `depth` % of the haystack's tokens. */
export function unitsBefore(units: Hay["units"], depth: number): number {
  const all = units.reduce((sum, { tokens }) => sum + tokens, 0);
  let passed = 0;
  const first = units.findIndex(({ tokens }) => (passed += tokens) > (depth * all) / 100);
  return first < 0 ? units.length : first;
}

const novels = new Map<string, readonly string[]>();

/** A novel's sentences without its title page, chapter headings and line breaks. */
export function sentencesOf(novel: Novel): readonly string[] {
  let sentences = novels.get(novel);
  if (!sentences) {
    sentences = split(novelText(novel));
    novels.set(novel, sentences);
  }
  return sentences;
}

const HEADING = /^(chapter|volume) [0-9ivxlc]+$/i;
/** A footnote, or a row of stars. */
const NOTE = /^\*/;
const END = /^(finis|the end|a note on the text)$/i;
/** Where sentences of any text begin, those in lower case too, which UAX 29 takes for going on. */
const AFTER_MARK = /(?<=[.!?…]["'”’)\]»]* )/u;
/** A sentence does not end here, whatever follows. */
const ABBREVIATION = /(?<!\p{L})(Mr|Mrs|Dr|St|Hon|Esq|Capt|Col|Messrs|[A-HJ-Z])\.\s*$/u;

function split(text: string): string[] {
  const paragraphs = paragraphsOf(text);
  const begin = paragraphs.findIndex((paragraph) => HEADING.test(paragraph));
  const end = paragraphs.findIndex((paragraph) => END.test(paragraph));
  return paragraphs
    .slice(begin, end < 0 ? undefined : end)
    .filter((paragraph) => !HEADING.test(paragraph) && !NOTE.test(paragraph))
    .flatMap(splitParagraph);
}

/** The paragraphs of a text, each in one line. */
function paragraphsOf(text: string): string[] {
  return text
    .split(/\r?\n\s*\r?\n/)
    .map((paragraph) => paragraph.replace(/\s+/g, " ").trim())
    .filter((paragraph) => paragraph !== "");
}

/** Sentences by the rules of Unicode (UAX 29). */
function splitParagraph(paragraph: string): string[] {
  const segmenter = new Intl.Segmenter("en", { granularity: "sentence" });
  return joinAbbreviations(Array.from(segmenter.segment(paragraph), ({ segment }) => segment));
}

function joinAbbreviations(parts: readonly string[]): string[] {
  const sentences: string[] = [];
  for (const part of parts) {
    const last = sentences.at(-1);
    if (last !== undefined && ABBREVIATION.test(last)) sentences[sentences.length - 1] = last + part;
    else sentences.push(part);
  }
  return sentences.map((sentence) => sentence.trim());
}
