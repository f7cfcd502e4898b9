import {
  LongctxError,
  type GenerationOptions,
  type LanguageModel,
  type ModelConfig,
  type ModelContext,
} from "@longctx/core";
import { headsFor, shippedHeads, type Head, type HeadsFile } from "./heads-file.ts";

/** The prompt of a reader: a frame and the text in it, as texts or as token ids. */
export interface ScrollPrompt {
  /** What every reading begins with: an instruction, the beginning of a chat; a tokenizer puts its own token before it. */
  readonly before?: string | readonly number[];
  /** The long text. */
  readonly text: string | readonly number[];
  /** What every reading ends with: the question, and the opening of the answer where it has one. */
  readonly question: string | readonly number[];
}

/** What can be chosen of a reader, in tokens; where the trained window T is small, defaults are at most T/2, T/4 and T/8. */
export interface ScrollSizes {
  /** The largest number of tokens of text that is read at once beside the carried ones; 1,024 unless given. */
  readonly chunk?: number;
  /** The number of neighbouring tokens over which attention is summed; 3 unless given. */
  readonly phrase?: number;
  /** The largest number of tokens that is carried from chunk to chunk; 256 unless given. */
  readonly budget?: number;
  /** The largest number of tokens of text that the answer is generated from; 128 unless given. */
  readonly answer?: number;
}

/** How a reader reads, and how its answer is generated. */
export interface ScrollOptions extends ScrollSizes, Omit<GenerationOptions, "prompt" | "onPrefill"> {
  /** The heads that score, or a heads file; the file that is shipped for the model unless given. */
  readonly heads?: readonly Head[] | HeadsFile;
  /** Told after each chunk how many of the text's tokens were read. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** The token ids of a prompt. */
export interface ScrollParts {
  readonly before: readonly number[];
  readonly text: readonly number[];
  readonly question: readonly number[];
}

/** What a reader reads by, with defaults filled in. */
export interface ResolvedScroll {
  readonly sizes: Required<ScrollSizes>;
  readonly heads: readonly Head[];
}

/** A checked prompt and what its reader reads by. */
export interface PreparedScroll extends ResolvedScroll {
  readonly parts: ScrollParts;
  /** The number of tokens that the reader's session has to hold. */
  readonly capacity: number;
}

/** The number of tokens that a generation is limited to where the caller gives none. */
const MAX_NEW = 128;

/**
 * Fills in what a reader takes by itself for a model.
 * @throws LongctxError "argument" when a size is impossible, the model does not have a head, or none are given and none
 * are known for it
 */
export function resolveScroll(
  { config, trainedWindow }: Pick<ModelContext, "config" | "trainedWindow">,
  options: Pick<ScrollOptions, keyof ScrollSizes | "heads"> = {},
): ResolvedScroll {
  return { sizes: sizesOf(trainedWindow, options), heads: scoringHeads(config, options.heads) };
}

/**
 * Checks a prompt and the options of its reader without reading anything.
 * @throws LongctxError "argument" as `resolveScroll`, and when a part is empty or the parts do not fit the model's window
 */
export function prepareScroll(
  { context, tokenizer }: Pick<LanguageModel, "context" | "tokenizer">,
  prompt: ScrollPrompt,
  options: Pick<ScrollOptions, keyof ScrollSizes | "heads" | "maxNew"> = {},
): PreparedScroll {
  const parts = encodedParts(tokenizer, prompt);
  const resolved = resolveScroll(context, options);
  const capacity = checkWindow(context.trainedWindow, parts, resolved.sizes, options.maxNew);
  return { ...resolved, parts, capacity };
}

/** Returns the sizes with defaults filled in. @throws LongctxError "argument" for a size that is impossible */
function sizesOf(trainedWindow: number, { chunk, phrase, budget, answer }: ScrollSizes): Required<ScrollSizes> {
  const most = (size: number, share: number) => Math.max(1, Math.min(size, Math.floor(trainedWindow / share)));
  const carried = budget ?? most(256, 4);
  const sizes = {
    chunk: chunk ?? most(1024, 2),
    phrase: phrase ?? 3,
    budget: carried,
    answer: answer ?? Math.min(carried, most(128, 8)),
  };
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isSafeInteger(size) || size < 1)
      throw refused(`${name} is ${size}; give a whole number of tokens of at least 1`);
  }
  if (sizes.answer > sizes.budget)
    throw refused(
      `answer is ${sizes.answer} tokens, but only ${sizes.budget} are carried to the end of the text; give a larger budget or a smaller answer`,
    );
  return sizes;
}

/** Returns the token ids of a prompt. @throws LongctxError "argument" when a part is empty or cannot be encoded */
function encodedParts(
  tokenizer: LanguageModel["tokenizer"],
  { before = "", text, question }: ScrollPrompt,
): ScrollParts {
  if (!tokenizer)
    throw refused("this checkpoint comes without a tokenizer, by which sentences are found; open one that has it");
  const idsOf = (part: string | readonly number[], special: boolean) =>
    typeof part === "string" ? tokenizer.encode(part, { special }) : part;
  const parts = { before: idsOf(before, true), text: idsOf(text, false), question: idsOf(question, false) };
  for (const name of ["text", "question"] as const)
    if (parts[name].length === 0) throw refused(`the ${name} is empty; give at least one token of it`);
  return parts;
}

/**
 * Returns the heads that score.
 * @throws LongctxError "argument" when the model does not have one of them, or none are given and none known
 */
function scoringHeads(config: ModelConfig, heads: ScrollOptions["heads"]): readonly Head[] {
  const file = heads ?? shippedHeads(config);
  if (!file)
    throw refused(
      "no heads are known that retrieve in this model; measure them with `longctx heads MODEL` and give its file, or give heads as [layer, head]",
    );
  const chosen = "format" in file ? headsFor(file, config) : file;
  if (chosen.length === 0) throw refused("no heads are given; give at least one as [layer, head]");
  for (const [layer, head] of chosen) {
    if (!isIndex(layer, config.layerCount) || !isIndex(head, config.queryHeads))
      throw refused(
        `the model has no head ${layer}.${head}; its layers go from 0 to ${config.layerCount - 1}, its query heads from 0 to ${config.queryHeads - 1}`,
      );
  }
  return chosen;
}

/**
 * Returns the number of tokens that the reader's session has to hold.
 * @throws LongctxError "argument" when what is read at once, or the answer's prompt and the answer, is longer than the
 * trained window
 */
function checkWindow(
  trainedWindow: number,
  { before, question }: Pick<ScrollParts, "before" | "question">,
  { chunk, budget, answer }: Required<ScrollSizes>,
  maxNew: number = MAX_NEW,
): number {
  if (!Number.isSafeInteger(maxNew) || maxNew < 0)
    throw refused(`maxNew is ${maxNew}; give a whole number of at least 0`);
  const frame = before.length + question.length;
  const read = frame + budget + chunk;
  if (read > trainedWindow)
    throw refused(
      `${frame} tokens of frame and question, a budget of ${budget} and a chunk of ${chunk} are ${read} tokens together, but the model's window has ${trainedWindow}; give a smaller chunk or budget`,
    );
  const answered = frame + answer + maxNew;
  if (answered > trainedWindow)
    throw refused(
      `${frame} tokens of frame and question, ${answer} of text and ${maxNew} new ones are ${answered} tokens together, but the model's window has ${trainedWindow}; give a smaller answer or maxNew`,
    );
  return Math.max(read, answered);
}

function isIndex(value: number, count: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < count;
}

function refused(why: string): LongctxError {
  return new LongctxError("argument", `scroll: ${why}.`);
}
