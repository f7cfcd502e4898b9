import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { openSafetensors, type ChatMessage } from "longctx";

const FOLDER = fileURLToPath(new URL("data/smollm2/", import.meta.url));

/** A text and what transformers computes for it, see data/smollm2/README.md. */
export interface LogitCase {
  readonly name: string;
  readonly text: string;
  readonly ids: readonly number[];
  /** [T, 20] */
  readonly topIds: Float32Array;
  /** [T, 20] */
  readonly topLogits: Float32Array;
  /** [T, ceil(V / sampleStep)]: the logits of the ids 0, sampleStep, 2 sampleStep, ... */
  readonly sample: Float32Array;
  readonly sampleStep: number;
  /** [T] */
  readonly logSumExp: Float32Array;
}

export interface ChatCase {
  readonly messages: readonly ChatMessage[];
  readonly prompt: string;
  readonly ids: readonly number[];
  readonly text: string;
}

interface Cases {
  readonly sampleStep: number;
  readonly cases: readonly Pick<LogitCase, "name" | "text" | "ids">[];
  readonly chat: ChatCase;
}

function readCases(): Cases {
  return JSON.parse(readFileSync(`${FOLDER}cases.json`, "utf8")) as Cases;
}

export function logitCases(): LogitCase[] {
  const { sampleStep, cases } = readCases();
  const file = openSafetensors(`${FOLDER}logits.safetensors`);
  const tensor = (name: string): Float32Array => file.tensors.get(name)!.toFloat32();
  const read = cases.map((entry) => ({
    ...entry,
    sampleStep,
    topIds: tensor(`${entry.name}.top_ids`),
    topLogits: tensor(`${entry.name}.top_logits`),
    sample: tensor(`${entry.name}.sample`),
    logSumExp: tensor(`${entry.name}.log_sum_exp`),
  }));
  file.close();
  return read;
}

export function chatCase(): ChatCase {
  return readCases().chat;
}

/** The largest difference of a logit, or of a row's log-sum-exp, from what transformers computes; logits are [T, V]. */
export function largestDifference(logits: Float32Array, golden: LogitCase): number {
  const { ids, topIds, topLogits, sample, sampleStep, logSumExp } = golden;
  const vocabSize = logits.length / ids.length;
  const [tops, samples] = [topIds.length / ids.length, sample.length / ids.length];
  let largest = 0;
  const compare = (value: number, expected: number): void => {
    const difference = Math.abs(value - expected);
    if (!(difference <= largest)) largest = difference; // NaN is kept
  };
  for (let t = 0; t < ids.length; t++) {
    const row = logits.subarray(t * vocabSize, (t + 1) * vocabSize);
    for (let i = t * tops; i < (t + 1) * tops; i++) compare(row[topIds[i]], topLogits[i]);
    for (let i = 0; i < samples; i++) compare(row[i * sampleStep], sample[t * samples + i]);
    compare(logSumExpOf(row), logSumExp[t]);
  }
  return largest;
}

function logSumExpOf(row: Float32Array): number {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return max + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - max), 0));
}

/** A passkey prompt and whether transformers finds the key, by method. */
export interface PasskeyRecord {
  /** Tokens aimed at. */
  readonly length: number;
  readonly depth: number;
  readonly trial: number;
  readonly key: number;
  /** Filler units before and after the key's line. */
  readonly before: number;
  readonly after: number;
  readonly found: Readonly<Record<string, boolean>>;
}

export function passkeyRecords(): PasskeyRecord[] {
  const lines = readFileSync(`${FOLDER}passkey.jsonl`, "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as PasskeyRecord);
}

/** How many tokens transformers was asked for. */
export const PASSKEY_ANSWER_TOKENS = 8;

/** The published five lines (Mohtashami and Jaggi 2023, arXiv:2305.16300), no chat template. */
export function passkeyPrompt({ key, before, after }: PasskeyRecord): string {
  return [
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.",
    fillerUnits(before),
    `The pass key is ${key}. Remember it. ${key} is the pass key.`,
    fillerUnits(after),
    "What is the pass key? The pass key is",
  ].join("\n");
}

function fillerUnits(count: number): string {
  const unit = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
  return Array.from({ length: count }, () => unit).join(" ");
}

/** The first run of digits in the answer is the key. */
export function findsKey(answer: string, { key }: PasskeyRecord): boolean {
  return /\d+/.exec(answer)?.[0] === String(key);
}
