import type { FinishReason, LanguageModel, Session } from "longctx";
import type { BoundTask, Prompt, ReaderRecord } from "@longctx/tasks";
import { readBeginning, type ReadingOptions } from "./reading.ts";
import type { ResolvedMethod } from "./schedule.ts";

/** What a method or a reader answers to a prompt, and what it took. */
export interface Answer {
  readonly pred: string;
  readonly ids: readonly number[];
  readonly reason: FinishReason;
  /** Logits [V] after the question. */
  readonly logits: Float32Array;
  /** ms for the prompt; of a reader, for its long text. */
  readonly reading: number;
  readonly bytes: number;
  /** Tokens at the beginning of the prompt that an earlier sample had read. */
  readonly reused: number;
  readonly reader?: ReaderRecord;
}

/** A prompt read under a method, and answered. */
export async function answerByMethod(
  model: LanguageModel,
  { maxNew }: BoundTask,
  method: ResolvedMethod,
  prompt: Prompt,
  options: ReadingOptions,
): Promise<Answer> {
  const { signal } = options;
  const begin = performance.now();
  const beginning = await readBeginning(model, method, prompt, options);
  const { session, reused } = beginning;
  try {
    const logits = await readRest(session, prompt.ids, options);
    const reading = performance.now() - begin;
    const { bytes } = session; // devices allocate as tokens come
    const answer = session.generate({ maxNew, signal });
    const pred = await answer.complete();
    return { pred, ids: answer.ids, reason: answer.reason!, logits, reading, bytes, reused };
  } finally {
    beginning.release();
  }
}

/** Logits [V] behind the prompt, whose last tokens are read at once, or one by one if the question is. */
async function readRest(
  session: Session,
  ids: readonly number[],
  { question, signal }: ReadingOptions,
): Promise<Float32Array> {
  const { length } = ids;
  if (question === "singly")
    while (session.length < length - 1) await session.prefill([ids[session.length]], { signal, length, logitRows: 0 });
  return session.prefill(ids.slice(session.length), { signal, length });
}
