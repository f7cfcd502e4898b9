import { LongctxError, listed, type Interval, type Tokenizer } from "@longctx/core";
import { sentencesOf, type HeadProbe } from "@longctx/retrieval";
import { TokenCounter } from "../assemble.ts";
import { Draws } from "../draws.ts";
import { tokenizerFingerprint } from "../fingerprint.ts";
import { fillerHay, fitting, joined, proseHay, unitsBefore, type Hay, type Prose } from "../haystack.ts";
import { needleTask } from "../needle.ts";
import { INSTRUCTION, passkeySentences, QUESTION } from "../passkey.ts";
import { FACTS, type Fact } from "./facts.ts";

/** A needle in prose and what is asked for it, or one of the small world's tasks. */
export const PROBE_KINDS = ["passkey-filler", "passkey-prose", "sentence", "paraphrase", "world", "world-4"] as const;
export type ProbeKind = (typeof PROBE_KINDS)[number];

export interface ProbeOptions {
  /** The largest number of tokens of a prompt. */
  readonly length: number;
  /** Prompts of each kind; those with even numbers choose heads, those with odd numbers are held out. */
  readonly prompts: number;
  readonly seed: number;
  /** The kinds of prompts; those that the tokenizer is made for unless given. */
  readonly kinds?: readonly ProbeKind[];
  /** Texts in which the needles of prose are hidden; four novels unless given. */
  readonly texts?: readonly Prose[];
}

/** Where needles stand, % of the text; both halves of the prompts go through them. */
const DEPTHS = [0, 14, 29, 43, 57, 71, 86, 100];

/**
 * Prompts by which heads that retrieve are found (`measureHeads`): the published passkey in its filler and in prose, a
 * sentence in prose asked in its own words and in others, and for models that know no prose the small world's needle, alone
 * and beside three of its kind. The kinds take turns, so that any beginning of the list is a smaller measurement. The two
 * halves ask for different facts. @throws LongctxError "argument"
 */
export function headProbes(tokenizer: Tokenizer, options: ProbeOptions): HeadProbe[] {
  const { prompts, seed, kinds = probeKindsFor(tokenizer) } = options;
  if (!Number.isSafeInteger(prompts) || prompts < 2)
    throw new LongctxError("argument", `${prompts} prompts of a kind make no two halves; ask for 2 at least.`);
  const unknown = kinds.find((kind) => !PROBE_KINDS.includes(kind));
  if (kinds.length === 0 || unknown !== undefined)
    throw new LongctxError("argument", `There is no probe "${unknown ?? ""}"; there is ${listed(PROBE_KINDS)}.`);
  const maker = new ProbeMaker(tokenizer, options);
  return Array.from({ length: prompts }, (_, trial) => {
    const depth = DEPTHS[(trial >> 1) % DEPTHS.length];
    return kinds.map((kind) => maker.probe(kind, { length: options.length, depth, trial, seed }));
  }).flat();
}

/** The kinds of prompts that a tokenizer is made for: those of the small world where it spells prose letter by letter. */
export function probeKindsFor(tokenizer: Tokenizer): readonly ProbeKind[] {
  const letters = QUESTION.length / tokenizer.encode(QUESTION, { special: false }).length < 2;
  return letters ? ["world", "world-4"] : ["passkey-filler", "passkey-prose", "sentence", "paraphrase"];
}

interface Place {
  readonly length: number;
  readonly depth: number;
  readonly trial: number;
  readonly seed: number;
}

/** A prompt's text, and ranges of its characters. */
interface Marked {
  readonly text: string;
  readonly hay: Interval;
  readonly needle: Interval;
  readonly question: Interval;
}

class ProbeMaker {
  readonly #tokenizer: Tokenizer;
  readonly #counter: TokenCounter;
  readonly #fingerprint: string;
  readonly #texts: readonly Prose[] | undefined;
  /** Facts in the order of the prompts; those of even places stay at even places. */
  readonly #facts: readonly Fact[];

  constructor(tokenizer: Tokenizer, { seed, texts }: ProbeOptions) {
    this.#tokenizer = tokenizer;
    this.#counter = new TokenCounter(tokenizer);
    this.#fingerprint = tokenizerFingerprint(tokenizer);
    this.#texts = texts;
    this.#facts = new Draws({ probes: "facts", seed }).sample(FACTS, FACTS.length);
  }

  probe(kind: ProbeKind, place: Place): HeadProbe {
    const marked = kind === "world" || kind === "world-4" ? this.#inWorld(kind, place) : this.#inProse(kind, place);
    const ids = this.#tokenizer.encode(marked.text);
    const hay = this.#tokens(marked, marked.hay);
    const needle = this.#tokens(marked, marked.needle);
    const question = { ...this.#tokens(marked, marked.question), to: ids.length };
    for (const [range, tokens] of [
      [marked.needle, needle],
      [marked.question, question],
    ] as const)
      checkSeparate(marked.text.slice(range.from, range.to), this.#tokenizer.decode(ids.slice(tokens.from, tokens.to)));
    const sentences = [...sentencesOf(ids.slice(hay.from, hay.to), this.#tokenizer)].map(({ from, to }) => ({
      from: hay.from + from,
      to: hay.from + to,
    }));
    return { kind, heldOut: place.trial % 2 === 1, ids, sentences, needle, question };
  }

  /** The tokens of a range of characters; a space before it belongs to its first token. */
  #tokens({ text }: Marked, { from, to }: Interval): Interval {
    const before = (place: number) => this.#tokenizer.encode(text.slice(0, place).replace(/ +$/, "")).length;
    return { from: before(from), to: before(to) };
  }

  #inWorld(kind: "world" | "world-4", place: Place): Marked {
    const { text, needles } = needleTask({ needles: kind === "world" ? 1 : 4 }).bind(this.#tokenizer).prompt(place); // prettier-ignore
    const [{ key, value }] = needles;
    const question = text.length - ` remember : ${key}`.length;
    const needle = `remember : ${key} ${value} .`;
    const from = text.indexOf(needle);
    return {
      text,
      hay: { from: 0, to: question },
      needle: { from, to: from + needle.length },
      question: { from: question, to: text.length },
    };
  }

  #inProse(kind: Exclude<ProbeKind, "world" | "world-4">, place: Place): Marked {
    const { length, depth, trial, seed } = place;
    const draws = new Draws({ probe: kind, version: 1, length, depth, trial, seed, tokenizer: this.#fingerprint });
    const asked = this.#asked(kind, draws, trial);
    const frame = this.#tokenizer.encode(framed(asked, [], 0).text).length;
    const budget = length - frame;
    const hay = kind === "passkey-filler" ? fillerHay(this.#counter, budget) : proseHay(this.#counter, budget, draws, this.#texts); // prettier-ignore
    const probe = fitting(hay, length, (units) => {
      const made = framed(asked, units, unitsBefore(units, depth));
      return { made, tokens: this.#tokenizer.encode(made.text).length };
    });
    if (probe) return probe;
    throw new LongctxError(
      "argument",
      `${length} tokens are too few for a probe (${kind}): ${frame} go to instruction, needle and question. Ask for at least ${frame + 64}.`,
    );
  }

  #asked(kind: ProbeKind, draws: Draws, trial: number): Asked {
    if (kind === "passkey-filler" || kind === "passkey-prose") {
      const key = String(draws.integer(10_000, 50_000));
      return { needle: passkeySentences(key), seam: "\n", question: QUESTION };
    }
    const fact = this.#facts[trial % this.#facts.length];
    return kind === "sentence"
      ? { needle: fact.needle, seam: " ", question: `${fact.question} ${fact.opening}` }
      : { needle: fact.needle, seam: " ", question: `${fact.paraphrase} ${fact.paraphraseOpening}` };
  }
}

interface Asked {
  readonly needle: string;
  /** What stands between the needle and the text around it: the published passkey has lines of its own. */
  readonly seam: "\n" | " ";
  readonly question: string;
}

/** The prompt: instruction, text with the needle, question, each behind a newline. */
function framed({ needle, seam, question }: Asked, units: Hay["units"], before: number): Marked {
  const start = `${INSTRUCTION}\n`;
  const first = joined(units.slice(0, before));
  const last = joined(units.slice(before));
  const text = [first, needle, last].filter((part) => part !== "").join(seam);
  const from = start.length + (first === "" ? 0 : first.length + seam.length);
  const end = start.length + text.length;
  return {
    text: `${start}${text}\n${question}`,
    hay: { from: start.length, to: end },
    needle: { from, to: from + needle.length },
    question: { from: end + 1, to: end + 1 + question.length },
  };
}

/** A tokenizer may merge over a seam; it may also change case, and its decoder white space. */
function checkSeparate(expected: string, found: string): void {
  const bare = (text: string) => text.replaceAll(/\s/g, "").toLowerCase();
  if (bare(found) !== bare(expected))
    throw new LongctxError(
      "argument",
      `The tokenizer does not keep "${expected.trim()}" apart from the text around it (its tokens read "${found}"); ask for other kinds of probes.`,
    );
}
