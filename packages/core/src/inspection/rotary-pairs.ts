import { planOfText } from "./effective-distance.ts";
import { checkpointFrequencies } from "../positions/frequencies.ts";
import type { Method, ModelContext } from "../method/method.ts";
import {
  ChosenRows,
  samePlan,
  type AttentionPlan,
  type Choice,
  type Interval,
  type FrequencyTable,
  type Segment,
} from "../method/plan.ts";
import { checkCount, prepare, type RotationOptions } from "./rotation-options.ts";

/** What a method does to one rotary pair. All angles are in radians, between a query and a key that the query sees. */
export interface RotaryPair {
  readonly pair: number;
  /** The pair's frequency h(i) in the checkpoint's own table, radians a token. */
  readonly before: number;
  /** The pair's frequency h(i) under the method in a text of N tokens, radians a token. */
  readonly after: number;
  /**
   * The number of full turns of the pair over the trained reach, with the checkpoint's frequency and with the method's.
   */
  readonly turnsBefore: number;
  readonly turnsAfter: number;
  /**
   * Whether the pair makes less than one full turn over the trained reach, so that training covered only a part of the
   * circle.
   */
  readonly critical: boolean;
  /** The pair's angle at the trained reach; training covered the angles of a critical pair from 0 to this angle. */
  readonly trainedAngle: number;
  /** The smallest and the largest angle of the pair in a text of N tokens under the method. */
  readonly reachedAngle: { readonly least: number; readonly most: number };
  /** Whether training covered every angle of the pair that occurs in a text of N tokens under the method. */
  readonly inDistribution: boolean;
}

/** What a method does to all rotary pairs in a text of N tokens, compared with training. */
export interface RotaryPairs {
  /** The length N of the text in tokens. */
  readonly length: number;
  /**
   * The largest distance between two tokens in training: T, or the extended window where the checkpoint was trained
   * with its own RoPE scaling; or the sliding window, where all layers have one and it is shorter.
   */
  readonly trainedReach: number;
  /** The factor on cos and sin under the method. */
  readonly amplitude: number;
  /** The smallest and the largest effective distance g(m, n) in the text. */
  readonly distance: { readonly least: number; readonly most: number };
  readonly pairs: readonly RotaryPair[];
}

/**
 * Compares the angles of each rotary pair in training with those under a method in a text of `length` tokens (4 T
 * unless given). Only critical pairs can meet angles outside of training: those that make less than one turn over the
 * trained window, which lie beyond the critical dimension of Liu et al., "Scaling Laws of RoPE-based Extrapolation",
 * 2023 (arXiv:2310.05209).
 * @throws LongctxError where the method refuses the model
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
    // The tolerance for rounding: T/s · s is not always equal to T in floating point.
    const slack = 1e-12 * trainedAngle;
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

/** Returns the largest distance between two tokens in training, and the checkpoint's frequency table at that length. */
function trainedOn({ config, trainedWindow }: ModelContext): { reach: number; table: FrequencyTable } {
  const { rope, maxPositions, slidingWindows } = config;
  // Checkpoints are trained with the RoPE scaling that they name, except for dynamic NTK, which is applied without
  // training.
  const extended = rope.type !== "default" && rope.type !== "dynamic";
  const length = extended ? Math.max(trainedWindow, maxPositions) : trainedWindow;
  const widest = largest(slidingWindows.map((window) => window ?? Infinity));
  return { reach: Math.min(length, widest), table: checkpointFrequencies(rope, maxPositions, length) };
}

function candidatesOf({ from, size, candidates }: Choice): Interval {
  return { from, to: from + size * candidates };
}

/**
 * Returns the smallest and largest effective distance at which queries see tokens through a segment, or null where none
 * is visible.
 */
function distanceRange(segment: Segment, length: number): { least: number; most: number } | null {
  const { band, queries, keyPosition, queryPosition } = segment;
  if (segment.tokens instanceof ChosenRows) throw new Error("A plan without a model has no chosen tokens.");
  // Queries may choose any of the candidate blocks, so all of them count.
  const tokens = "choice" in segment.tokens ? candidatesOf(segment.tokens.choice) : segment.tokens;
  const listed = tokens instanceof Int32Array;
  const first = listed ? 0 : Math.max(0, tokens.from);
  const end = listed ? tokens.length : Math.min(tokens.to, length);
  const tokenAt = (index: number): number => (listed ? tokens[index] : index);
  // The tokens that query m sees form a sliding window, so two monotonic queues keep its smallest and largest key
  // position.
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

/** A monotonic queue: it keeps the best value of a sliding window in constant amortised time. */
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

  /** Returns the best value in the window, after dropping the entries for which `outside` is true. */
  first(outside: (index: number) => boolean): number | undefined {
    while (this.#head < this.#entries.length && outside(this.#entries[this.#head].index)) this.#head++;
    return this.#entries[this.#head]?.value;
  }
}

// `Math.min(...values)` would overflow the call stack for plans with very many segments.
function smallest(values: readonly number[]): number {
  return values.reduce((least, value) => Math.min(least, value), Infinity);
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), -Infinity);
}
