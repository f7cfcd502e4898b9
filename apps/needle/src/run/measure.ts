import { LongctxError, type LanguageModel } from "longctx";
import type { BoundTask, Prompt, SampleRecord } from "@longctx/tasks";
import { answerByMethod } from "./answer.ts";
import { answerByReader } from "./read.ts";
import type { RunOptions } from "./options.ts";
import { sampleId, specOf, type Job } from "./schedule.ts";
import { promptTrace } from "./traces.ts";
import type { Trunks } from "./trunks.ts";

export interface MadePrompt {
  readonly prompt: Prompt;
  /** ms it took. */
  readonly time: number;
}

export interface MeasureOptions {
  /** What methods of the same trunk read next at this length, for the trunks. */
  readonly upcoming?: () => readonly (readonly number[])[];
  /** Is told how far a reader is, in tokens. */
  readonly onRead?: (done: number, total: number) => void;
  /** Whether the record says what was fetched for the question and the answer. */
  readonly trace?: boolean;
  /** How the question is read; with the text unless given. */
  readonly question?: RunOptions["question"];
}

/**
 * One prompt under one method, or by one reader, answered and scored. What goes wrong is a record with status "error"; an
 * abort is thrown.
 */
export async function measure(
  model: LanguageModel,
  task: BoundTask,
  { cell, method: general }: Job,
  { prompt, time }: MadePrompt,
  signal: AbortSignal,
  trunks: Trunks | null,
  { upcoming, onRead, trace = false, question = "joined" }: MeasureOptions = {},
): Promise<SampleRecord> {
  const method = general.forPrompt?.(prompt) ?? general;
  const started = new Date().toISOString();
  const cost = {
    started,
    prompt_ms: milliseconds(time),
    prefill_ms: 0,
    decode_ms: 0,
    cache_bytes: null as number | null,
    reused_prefix_tokens: 0,
  };
  const identity = {
    v: 1 as const,
    id: sampleId(prompt.id, method.label),
    prompt_id: prompt.id,
    task: task.task.name,
    task_version: task.task.version,
    params: { ...task.task.params } as SampleRecord["params"],
    trial: cell.trial,
    seed: cell.seed,
    method: method.label,
    method_spec: specOf(method),
    target_len: cell.length,
    prompt_tokens: prompt.ids.length,
    gen_budget: task.maxNew,
    depth_requested: cell.depth,
    depth_actual: rounded(prompt.needles[0].depth),
    needles: prompt.needles.map(({ key, value, start, end, depth }) => ({
      key,
      value,
      tok_start: start,
      tok_end: end,
      depth: rounded(depth),
    })),
    haystack: prompt.haystack,
    prompt_sha256: prompt.sha256,
    refs: [...prompt.refs],
    scorer: task.task.scorer,
  };
  try {
    const begin = performance.now();
    // All samples of a length get a cache of the same size, whatever their prompt came to.
    const capacity = cell.length + task.maxNew;
    const traced = trace && !method.reader ? promptTrace(cell, prompt) : null;
    const { pred, ids, reason, logits, reading, bytes, reused, reader } = method.reader
      ? await answerByReader(model, task, method.reader, prompt, { signal, onProgress: onRead })
      : await answerByMethod(model, task, method, prompt, {
          capacity,
          signal,
          trunks,
          upcoming,
          question,
          trace: traced?.method,
        });
    cost.prefill_ms = milliseconds(reading);
    cost.decode_ms = milliseconds(performance.now() - begin - reading);
    cost.cache_bytes = bytes;
    cost.reused_prefix_tokens = reused;
    if (reason === "aborted") throw new LongctxError("aborted", "Stopped, as asked.");
    const score = task.task.score(pred, prompt.refs);
    return {
      ...identity,
      pred,
      pred_tokens: [...ids],
      finish_reason: reason,
      score,
      correct: score === 1,
      ...placeOf(logits, prompt.firstAnswerToken),
      ...(reader && { reader }),
      ...(traced && { retrieved: traced.record() }),
      status: "ok",
      error: null,
      cost,
    };
  } catch (error) {
    trunks?.forget(method);
    if (error instanceof LongctxError && error.code === "aborted") throw error;
    const { code, message } = error instanceof LongctxError ? error : { code: "internal", message: String(error) };
    const nothing = {
      pred: null,
      pred_tokens: null,
      finish_reason: null,
      score: null,
      correct: false,
      logprob_first: null,
      rank_first: null,
    };
    return { ...identity, ...nothing, status: "error", error: { code, message: message.split("\n", 1)[0] }, cost };
  }
}

/** ln p of a token and its rank; 3 decimals, which float32 sums in another order do not change. */
function placeOf(logits: Float32Array, token: number): { logprob_first: number; rank_first: number } {
  const own = logits[token];
  let top = -Infinity;
  for (const logit of logits) top = Math.max(top, logit);
  let sum = 0;
  let rank = 1;
  for (const logit of logits) {
    sum += Math.exp(logit - top);
    if (logit > own) rank++;
  }
  return { logprob_first: rounded(own - top - Math.log(sum)), rank_first: rank };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000 + 0;
}

function milliseconds(time: number): number {
  return Math.round(time * 10) / 10;
}
