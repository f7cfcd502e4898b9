import { LongctxError } from "../common/errors.ts";
import { uniformFloat64 } from "../common/random.ts";

export interface SamplingOptions {
  /** 0 (the default) is greedy. */
  readonly temperature?: number;
  /** Keep the k likeliest tokens, of equally likely ones those with the smaller ids; 0 (the default) keeps all. */
  readonly topK?: number;
  /** Keep the likeliest tokens whose probabilities sum to at least p (nucleus, Holtzman et al. 2020). */
  readonly topP?: number;
  /** Keep tokens at least this likely relative to the likeliest (min-p, Nguyen et al. 2024). */
  readonly minP?: number;
  /** Divides positive and multiplies negative logits of tokens already in the text (CTRL, Keskar et al. 2019). */
  readonly repetitionPenalty?: number;
  /** A whole number; the same seed draws the same tokens from the same logits. */
  readonly seed?: number;
}

/** Draws a token from logits [V]; `text` holds the ids read so far. Filters apply in transformers' order. */
export type Sampler = (logits: Float32Array, text: readonly number[]) => number;

/** All that the choice of one token depends on besides the logits; devices that choose it themselves are given it. */
export interface Draw extends Required<Omit<SamplingOptions, "seed">> {
  /** From [0, 1); not used where the temperature is 0. */
  readonly uniform: number;
  /** The ids read so far, for the repetition penalty. */
  readonly text: readonly number[];
}

export function makeSampler(options: SamplingOptions = {}): Sampler {
  const draws = makeDraws(options);
  return (logits, text) => drawToken(logits, draws(text));
}

/** One draw a token: the checked options, and the seed's next random number. @throws LongctxError "argument" */
export function makeDraws(options: SamplingOptions = {}): (text: readonly number[]) => Draw {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  check("temperature", temperature, 0, Infinity);
  check("topK", topK, 0, Infinity);
  whole("topK", topK);
  check("topP", topP, 0, 1);
  check("minP", minP, 0, 1);
  check("repetitionPenalty", repetitionPenalty, Number.MIN_VALUE, Infinity);
  whole("seed", seed);
  const uniform = uniformFloat64(seed);
  return (text) => ({
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty,
    uniform: temperature === 0 ? 0 : uniform(),
    text,
  });
}

/** The token that a draw takes from logits [V]. @throws LongctxError "device" when the logits are not numbers */
export function drawToken(given: Float32Array, draw: Draw): number {
  const { repetitionPenalty, temperature, text, uniform } = draw;
  const logits = repetitionPenalty === 1 ? given : penalised(given, text, repetitionPenalty);
  return temperature === 0 ? argmax(logits) : pick(candidates(logits, draw), uniform);
}

function check(name: string, value: number, min: number, max: number): void {
  if (value >= min && value <= max) return;
  const wanted = max < Infinity ? `from ${min} to ${max}` : min > 0 ? "above 0" : "of at least 0";
  throw new LongctxError("argument", `${name} is ${value}, but has to be a number ${wanted}.`);
}

function whole(name: string, value: number): void {
  if (!Number.isSafeInteger(value)) throw new LongctxError("argument", `${name} is ${value}; give a whole number.`);
}

/** The first of the largest. @throws LongctxError when the logits are not numbers */
export function argmax(logits: Float32Array): number {
  let best = -1;
  let top = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] > top) {
      top = logits[id];
      best = id;
    }
  }
  if (best < 0) throw overflow();
  return best;
}

function overflow(): LongctxError {
  return new LongctxError(
    "device",
    "The model answered with logits that are not numbers; its weights or a method's parameters make it overflow.",
  );
}

function penalised(logits: Float32Array, text: readonly number[], penalty: number): Float32Array {
  const changed = logits.slice();
  for (const id of new Set(text)) changed[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
  return changed;
}

interface Candidates {
  readonly ids: readonly number[];
  /** Probabilities relative to the likeliest token, of all ids [V]. */
  readonly weights: Float64Array;
}

function candidates(logits: Float32Array, p: Pick<Draw, "temperature" | "topK" | "topP" | "minP">): Candidates {
  const top = logits[argmax(logits)];
  if (top === Infinity) throw overflow();
  const weights = new Float64Array(logits.length);
  for (let id = 0; id < logits.length; id++) weights[id] = Math.exp((logits[id] - top) / p.temperature) || 0;
  let ids = p.topK > 0 || p.topP < 1 ? likeliest(weights, p.topK, p.topP) : above(weights, 0);
  if (p.minP > 0) ids = ids.filter((id) => weights[id] >= p.minP);
  return { ids, weights };
}

/** The k likeliest ids, then as many of these as make up the share p, likeliest first. */
function likeliest(weights: Float64Array, k: number, p: number): number[] {
  const total = p < 1 && k === 0 ? weights.reduce((sum, weight) => sum + weight) : 0;
  const enough = (ids: readonly number[]) => (k > 0 ? ids.length >= k : sumOf(ids, weights) >= p * total);
  // Sorting the whole vocabulary would take as long as decoding a token, and the likeliest few are usually enough.
  let least = 2 ** -6;
  let ids = above(weights, least);
  while (least > 0 && !enough(ids)) {
    least = least > 2 ** -48 ? least * 2 ** -6 : 0;
    ids = above(weights, least);
  }
  ids.sort((a, b) => weights[b] - weights[a] || a - b);
  if (k > 0) ids = ids.slice(0, k);
  if (p === 1) return ids;
  const share = p * (total || sumOf(ids, weights));
  let sum = 0;
  const last = ids.findIndex((id) => (sum += weights[id]) >= share);
  return last < 0 ? ids : ids.slice(0, last + 1);
}

function above(weights: Float64Array, least: number): number[] {
  const ids: number[] = [];
  for (let id = 0; id < weights.length; id++) if (weights[id] > 0 && weights[id] >= least) ids.push(id);
  return ids;
}

function sumOf(ids: readonly number[], weights: Float64Array): number {
  return ids.reduce((sum, id) => sum + weights[id], 0);
}

function pick({ ids, weights }: Candidates, uniform: number): number {
  let rest = uniform * sumOf(ids, weights);
  for (const id of ids) if ((rest -= weights[id]) < 0) return id;
  return ids[ids.length - 1];
}
