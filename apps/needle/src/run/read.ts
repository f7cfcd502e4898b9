import {
  prepareScroll,
  scroll,
  type LanguageModel,
  type ResolvedScroll,
  type ScrolledChunk,
  type ScrollOptions,
  type ScrollPrompt,
  type ScrollResult,
} from "longctx";
import type { BoundTask, Prompt, ReaderRecord } from "@longctx/tasks";
import type { Answer } from "./answer.ts";

/** Sentences of a record; of more, those that were carried the longest stay. */
const MOST_CARRIED = 2000;

/** The prompt in the parts that a reader takes. */
function partsOf({ ids, passage: { start, end } }: Prompt): ScrollPrompt {
  return { before: ids.slice(0, start), text: ids.slice(start, end), question: ids.slice(end) };
}

/** Can a reader read such prompts? Asked before anything is measured. @throws LongctxError "argument" */
export function checkReader(model: LanguageModel, { maxNew }: BoundTask, reader: ResolvedScroll, prompt: Prompt): void {
  prepareScroll(model, partsOf(prompt), optionsOf(reader, maxNew));
}

function optionsOf({ sizes, heads }: ResolvedScroll, maxNew: number): ScrollOptions {
  return { ...sizes, heads, maxNew };
}

/** A prompt read and answered by a reader. */
export async function answerByReader(
  model: LanguageModel,
  { maxNew }: BoundTask,
  reader: ResolvedScroll,
  prompt: Prompt,
  { signal, onProgress }: { readonly signal: AbortSignal; readonly onProgress?: (done: number, total: number) => void },
): Promise<Answer> {
  const begin = performance.now();
  let reading = 0;
  const read = await scroll(model, partsOf(prompt), {
    ...optionsOf(reader, maxNew),
    signal,
    onProgress: (done, total) => {
      reading = performance.now() - begin;
      onProgress?.(done, total);
    },
  });
  const { answer: pred, ids, reason, logits, bytes } = read;
  return { pred, ids, reason, logits, reading, bytes, reused: 0, reader: recordOf(model, prompt, read) };
}

function recordOf(model: LanguageModel, prompt: Prompt, read: ScrollResult): ReaderRecord {
  const { start } = prompt.passage;
  return {
    tokens_read: read.tokensRead,
    chunk_ends: read.chunks.map(({ to }) => start + to),
    ...carriedBy(read.chunks, start),
    answered_from: read.answeredFrom.map(({ from, to, score }) => [start + from, start + to, short(score)]),
    needle: needleIn(model, prompt, read),
  };
}

type Carried = ReaderRecord["carried"][number];

function carriedBy(chunks: readonly ScrolledChunk[], start: number): Pick<ReaderRecord, "carried" | "carried_omitted"> {
  const all = new Map<string, Carried>();
  chunks.forEach(({ carried }, chunk) => {
    for (const { from, to, score } of carried) {
      const [, , first = chunk, , most = 0] = all.get(`${from} ${to}`) ?? [];
      all.set(`${from} ${to}`, [start + from, start + to, first, chunk, Math.max(most, short(score))]);
    }
  });
  const longest = [...all.values()].sort((a, b) => b[3] - b[2] - (a[3] - a[2])).slice(0, MOST_CARRIED);
  const carried = longest.sort((a, b) => a[0] - b[0]);
  return { carried, carried_omitted: all.size - carried.length };
}

/** The sentences that say the needle's value, where the needle stands. */
function needleIn(
  model: LanguageModel,
  { ids, needles: [{ value, start, end }], passage }: Prompt,
  { chunks, answeredFrom }: ScrollResult,
): ReaderRecord["needle"] {
  const bare = (text: string) => text.replaceAll(/\s/g, "");
  const scoreIn = (sentences: ScrolledChunk["carried"]): number | null => {
    const saying = sentences.filter(({ from, to }) => {
      const [begin, stop] = [Math.max(start, passage.start + from), Math.min(end, passage.start + to)];
      return begin < stop && bare(model.tokenizer!.decode(ids.slice(begin, stop))).includes(bare(value));
    });
    return saying.length > 0 ? Math.max(...saying.map(({ score }) => score)) : null;
  };
  const chunk = Math.max(
    0,
    chunks.findIndex(({ to }) => passage.start + to >= end),
  );
  const scores = chunks.slice(chunk).map(({ carried }) => scoreIn(carried));
  const lost = scores.indexOf(null);
  const margins = scores.flatMap((score, i) => {
    const { dropped } = chunks[chunk + i];
    return score !== null && dropped > 0 ? [score / dropped] : [];
  });
  return {
    chunk,
    lost: lost < 0 ? null : chunk + lost,
    margin: margins.length > 0 ? short(Math.min(...margins)) : null,
    answered_from: scoreIn(answeredFrom) !== null,
  };
}

/** Three digits are enough to compare by. */
function short(value: number): number {
  return Number(value.toPrecision(3));
}
