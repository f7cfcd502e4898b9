import { planOfText } from "./effective-distance.ts";
import { checkpointFrequencies } from "../positions/frequencies.ts";
import type { Method, ModelContext } from "../method/method.ts";
import { samePlan, type AttentionPlan, type FrequencyTable, type Segment } from "../method/plan.ts";
import { checkCount, prepare, type RotationOptions } from "./rotation-options.ts";

/** What a method does to one rotary pair. An angle is between a query and a key that it sees, in radians. */
export interface RotaryPair {
  readonly pair: number;
  /** The checkpoint's own h(i), radians a token. */
  readonly before: number;
  /** The method's h(i) in a text of N tokens, radians a token. */
  readonly after: number;
  /** How many turns the pair completes within the trained reach, with the checkpoint's h(i) and with the method's. */
  readonly turnsBefore: number;
  readonly turnsAfter: number;
  /** The pair completes no turn within the trained reach, so training met only some of the angles of a turn. */
  readonly critical: boolean;
  /** The angle at the largest distance in training, which met the angles of a critical pair from 0 to this one. */
  readonly trainedAngle: number;
  /** The smallest and the largest angle in a text of N tokens under the method. */
  readonly reachedAngle: { readonly least: number; readonly most: number };
  /** Training met every angle that a text of N tokens meets under the method. */
  readonly inDistribution: boolean;
}

export interface RotaryPairs {
  /** N, tokens. */
  readonly length: number;
  /**
   * The largest distance in training, tokens: T, or the extended window where the checkpoint was trained with its own
   * RoPE type; a sliding window that every layer has makes it shorter.
   */
  readonly trainedReach: number;
  /** The factor on cos and sin under the method. */
  readonly amplitude: number;
  /** The smallest and the largest g(m, n) of the text. */
  readonly distance: { readonly least: number; readonly most: number };
  readonly pairs: readonly RotaryPair[];
}

/**
 * What a method does to each rotary pair in a text of `length` tokens (4 T unless given). Critical pairs, those behind
 * the critical dimension of Liu et al., "Scaling Laws of RoPE-based Extrapolation", 2023 (arXiv:2310.05209), complete
 * no turn in training; only they can meet angles that training never met. @throws LongctxError
 */
export function rotaryPairs(method: Method, options: RotationOptions = {}): RotaryPairs {
  const { composition, context } = prepare(method, options);
  const length = checkCount("length", options.length ?? 4 * context.trainedWindow);
  const trained = trainedOn(context);
  const layers = options.layer === undefined ? context.config.slidingWindows.map((_, layer) => layer) : [options.layer];
  const plans: AttentionPlan[] = [];
  for (const layer of layers) {
    const plan = planOfText(method, { ...options, length, layer });
    if (!plans.some((known) => samePlan(known, plan))) plans.push(plan);
  }
  const reached = plans
    .flatMap(({ segments }) => segments)
    .flatMap((segment) => {
      const range = distanceRange(segment, length);
      return range ? [{ ...range, table: segment.table }] : [];
    });
  const table = composition.table(context, length);
  const turns = (frequency: number): number => (frequency * trained.reach) / (2 * Math.PI);
  const pairs = Array.from(table.inverse, (after, pair): RotaryPair => {
    const before = trained.table.inverse[pair];
    const critical = turns(before) < 1;
    const trainedAngle = before * trained.reach;
    const reachedAngle = {
      least: smallest(reached.map((range) => range.least * range.table.inverse[pair])),
      most: largest(reached.map((range) => range.most * range.table.inverse[pair])),
    };
    const slack = 1e-12 * trainedAngle; // T/s · s is not always T in floating point.
    return {
      pair,
      before,
      after,
      turnsBefore: turns(before),
      turnsAfter: turns(after),
      critical,
      trainedAngle,
      reachedAngle,
      inDistribution: !critical || (reachedAngle.least >= -slack && reachedAngle.most <= trainedAngle + slack),
    };
  });
  const distance = {
    least: smallest(reached.map((range) => range.least)),
    most: largest(reached.map((range) => range.most)),
  };
  return { length, trainedReach: trained.reach, amplitude: table.amplitude, distance, pairs };
}

/** The largest distance of two tokens in training, and the checkpoint's table for texts of that length. */
function trainedOn({ config, trainedWindow }: ModelContext): { reach: number; table: FrequencyTable } {
  const { rope, maxPositions, slidingWindows } = config;
  // Dynamic NTK is the one extension that checkpoints name without having been trained with it.
  const extended = rope.type !== "default" && rope.type !== "dynamic";
  const length = extended ? Math.max(trainedWindow, maxPositions) : trainedWindow;
  const widest = largest(slidingWindows.map((window) => window ?? Infinity));
  return { reach: Math.min(length, widest), table: checkpointFrequencies(rope, maxPositions, length) };
}

/** The smallest and largest distance at which queries see tokens through a segment; null where no query sees any. */
function distanceRange(segment: Segment, length: number): { least: number; most: number } | null {
  const { tokens, band, queries, keyPosition, queryPosition } = segment;
  const listed = tokens instanceof Int32Array;
  const first = listed ? 0 : Math.max(0, tokens.from);
  const end = listed ? tokens.length : Math.min(tokens.to, length);
  const tokenAt = (index: number): number => (listed ? tokens[index] : index);
  // The tokens that query m sees are a window that moves forward with m, so two monotonic queues find its extremes.
  const low = new ExtremeQueue((a, b) => a < b);
  const high = new ExtremeQueue((a, b) => a > b);
  let [least, most] = [Infinity, -Infinity];
  let next = first;
  for (let m = Math.max(0, queries?.from ?? 0); m < Math.min(length, queries?.to ?? length); m++) {
    for (; next < end && tokenAt(next) < length && m - tokenAt(next) >= band.from; next++) {
      const position = keyPosition.at(tokenAt(next));
      low.push(next, position);
      high.push(next, position);
    }
    const outside = (index: number): boolean => m - tokenAt(index) >= band.to;
    const [lowest, highest] = [low.first(outside), high.first(outside)];
    if (lowest === undefined || highest === undefined) continue;
    const query = queryPosition.at(m);
    least = Math.min(least, query - highest);
    most = Math.max(most, query - lowest);
  }
  return most === -Infinity ? null : { least, most };
}

/** A monotonic queue: the best value of a window that moves forward, in constant amortised time. */
class ExtremeQueue {
  readonly #better: (a: number, b: number) => boolean;
  readonly #entries: { readonly index: number; readonly value: number }[] = [];
  #head = 0;

  constructor(better: (a: number, b: number) => boolean) {
    this.#better = better;
  }

  push(index: number, value: number): void {
    const entries = this.#entries;
    while (entries.length > this.#head && !this.#better(entries[entries.length - 1].value, value)) entries.pop();
    entries.push({ index, value });
  }

  /** The best value in the window; entries that have left it are dropped. */
  first(outside: (index: number) => boolean): number | undefined {
    while (this.#head < this.#entries.length && outside(this.#entries[this.#head].index)) this.#head++;
    return this.#entries[this.#head]?.value;
  }
}

// Math.min(...values) would overflow the stack for plans of very many segments.
function smallest(values: readonly number[]): number {
  return values.reduce((least, value) => Math.min(least, value), Infinity);
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), -Infinity);
}
