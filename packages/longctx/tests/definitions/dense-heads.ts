import type { Attention, Llama } from "./dense-llama.ts";

/** The attention of single heads in float64: rotations by a distance, logits, softmax, sums of values. */

/** The angle by which a query is turned against a key: cos and sin of each rotary pair. */
export interface Turn {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/** What heads are made of. */
export type Shape = Pick<Llama, "queryHeads" | "keyHeads" | "headSize" | "rotarySize">;

/** The key head of a query head. */
export function keyHeadOf({ queryHeads, keyHeads }: Shape, head: number): number {
  return Math.floor(head / (queryHeads / keyHeads));
}

/** Makes turns by a distance, for the frequencies of `attention`, whose own distances are those of the text. */
export class Turns {
  readonly #pairs: number;
  readonly #attention: Attention;
  readonly #known = new Map<string, Map<number, Turn>>();

  constructor({ rotarySize }: Shape, attention: Attention) {
    this.#pairs = rotarySize / 2;
    this.#attention = attention;
  }

  /** Returns the turn by any distance for the query at text index m. */
  at(m: number, layer: number): (distance: number) => Turn {
    // The distance of neighbours is 1, so this angle is the frequency.
    const frequencies = Array.from({ length: this.#pairs }, (_, i) => this.#attention.angle(m, m - 1, i, layer));
    const name = frequencies.join(" ");
    const known = this.#known.get(name) ?? new Map<number, Turn>();
    this.#known.set(name, known);
    return (distance) => {
      if (!known.has(distance)) {
        const angles = Float64Array.from(frequencies, (frequency) => distance * frequency);
        known.set(distance, { cos: angles.map(Math.cos), sin: angles.map(Math.sin) });
      }
      return known.get(distance)!;
    };
  }
}

/** A query [D], which lies at an index of its array, turned: rotated channels have the factor amplitude, the others do not. */
export function turned(
  queries: ArrayLike<number>,
  at: number,
  { headSize, rotarySize }: Shape,
  { cos, sin }: Turn,
  amplitude: number,
): Float64Array {
  const half = rotarySize / 2;
  const out = new Float64Array(headSize);
  for (let i = 0; i < half; i++) {
    const [x, y] = [queries[at + i], queries[at + half + i]];
    out[i] = (x * cos[i] - y * sin[i]) * amplitude;
    out[half + i] = (y * cos[i] + x * sin[i]) * amplitude;
  }
  for (let j = rotarySize; j < headSize; j++) out[j] = queries[at + j];
  return out;
}

/** A key head's key [D] of a token at position 0. */
export function keyAtZero(
  keys: Float64Array,
  keyHead: number,
  { headSize, rotarySize }: Shape,
  amplitude: number,
): Float64Array {
  const key = keys.slice(keyHead * headSize, (keyHead + 1) * headSize);
  return key.map((x, j) => (j < rotarySize ? x * amplitude : x));
}

/** The query at an index, turned, times the key at an index; rotated channels of both have the factor amplitude. */
export function score(
  { headSize, rotarySize }: Shape,
  amplitude: number,
  { cos, sin }: Turn,
  q: ArrayLike<number>,
  at: number,
  key: ArrayLike<number>,
  atKey: number,
): number {
  const half = rotarySize / 2;
  let sum = 0;
  for (let i = 0; i < half; i++) {
    const [x, y] = [q[at + i], q[at + half + i]];
    sum += (x * cos[i] - y * sin[i]) * key[atKey + i] + (y * cos[i] + x * sin[i]) * key[atKey + half + i];
  }
  sum *= amplitude ** 2;
  for (let j = rotarySize; j < headSize; j++) sum += q[at + j] * key[atKey + j];
  return sum;
}

/** q [D] times the key that lies at an index of its array. */
export function product(q: ArrayLike<number>, keys: ArrayLike<number>, at = 0): number {
  let sum = 0;
  for (let j = 0; j < q.length; j++) sum += q[j] * keys[at + j];
  return sum;
}

/** Nothing for no logits. */
export function softmax(logits: readonly number[]): number[] {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** Σ weight · value [D] over tokens; zeros for no tokens. */
export function mixed(
  weights: readonly number[],
  tokens: readonly number[],
  values: readonly Float64Array[],
  at: number,
  headSize: number,
): Float64Array {
  const out = new Float64Array(headSize);
  tokens.forEach((n, s) => {
    for (let j = 0; j < headSize; j++) out[j] += weights[s] * values[n][at + j];
  });
  return out;
}
