import { uniformFloat64 } from "./random.ts";
import { LongctxError } from "./errors.ts";

export interface SamplingOptions {
  /** 0 (the default) is greedy. */
  readonly temperature?: number;
  /** Keep the k likeliest tokens. */
  readonly topK?: number;
  /** Keep the likeliest tokens whose probabilities sum to at least p (nucleus, Holtzman et al. 2020). */
  readonly topP?: number;
  /** Keep tokens at least this likely relative to the likeliest (min-p, Nguyen et al. 2024). */
  readonly minP?: number;
  /** Divides positive and multiplies negative logits of tokens already in the text (CTRL, Keskar et al. 2019). */
  readonly repetitionPenalty?: number;
  readonly seed?: number;
}

/** Draws a token from logits [V]; `text` holds the ids read so far. Filters apply in transformers' order. */
export type Sampler = (logits: Float32Array, text: readonly number[]) => number;

export function makeSampler(options: SamplingOptions = {}): Sampler {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  check("temperature", temperature, 0, Infinity);
  check("topK", topK, 0, Infinity);
  check("topP", topP, 0, 1);
  check("minP", minP, 0, 1);
  check("repetitionPenalty", repetitionPenalty, Number.MIN_VALUE, Infinity);
  const uniform = uniformFloat64(seed);
  return (given, text) => {
    const logits = repetitionPenalty === 1 ? given : penalised(given, text, repetitionPenalty);
    if (temperature === 0) return argmax(logits);
    return draw(candidates(logits, { temperature, topK, topP, minP }), uniform());
  };
}

function check(name: string, value: number, min: number, max: number): void {
  if (!(value >= min && value <= max))
    throw new LongctxError(
      "argument",
      `${name} is ${value}, but has to be a number ${max === Infinity ? `of at least ${min === 0 ? 0 : "a little above 0"}` : `from ${min} to ${max}`}.`,
    );
}

/** The first of the largest. @throws LongctxError when the logits are not numbers */
export function argmax(logits: Float32Array): number {
  let best = -1;
  let top = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] > top) {
      top = logits[id]!;
      best = id;
    }
  }
  if (best < 0)
    throw new LongctxError(
      "device",
      "The model answered with logits that are not numbers; its weights or a method's parameters make it overflow.",
    );
  return best;
}

function penalised(logits: Float32Array, text: readonly number[], penalty: number): Float32Array {
  const changed = logits.slice();
  for (const id of new Set(text)) changed[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
  return changed;
}

interface Candidate {
  readonly id: number;
  readonly weight: number;
}

function candidates(
  logits: Float32Array,
  p: { temperature: number; topK: number; topP: number; minP: number },
): Candidate[] {
  const top = logits[argmax(logits)];
  let kept: Candidate[] = [];
  for (let id = 0; id < logits.length; id++) {
    const weight = Math.exp((logits[id] - top) / p.temperature);
    if (weight > 0) kept.push({ id, weight });
  }
  kept.sort((a, b) => b.weight - a.weight || a.id - b.id);
  if (p.topK > 0) kept = kept.slice(0, p.topK);
  if (p.topP < 1) {
    const total = kept.reduce((sum, candidate) => sum + candidate.weight, 0);
    let sum = 0;
    const enough = kept.findIndex((candidate) => (sum += candidate.weight) >= p.topP * total);
    kept = kept.slice(0, Math.max(enough, 0) + 1);
  }
  return p.minP > 0 ? kept.filter((candidate) => candidate.weight >= p.minP) : kept;
}

function draw(kept: readonly Candidate[], uniform: number): number {
  let rest = uniform * kept.reduce((sum, candidate) => sum + candidate.weight, 0);
  for (const { id, weight } of kept) if ((rest -= weight) < 0) return id;
  return kept.at(-1)!.id;
}
