import { planOfText } from "./effective-distance.ts";
import { checkpointFrequencies } from "../positions/frequencies.ts";
import type { Method, ModelContext } from "../method/method.ts";
import { samePlan, type AttentionPlan, type FrequencyTable, type Segment } from "../method/plan.ts";
import { checkCount, prepare, type RotationOptions } from "./rotation-options.ts";

/** What a method does to one rotary pair. Angles are those between a query and a key it sees, in radians. */
export interface RotaryPair {
  readonly pair: number;
  /** h(i), radians a token: the checkpoint's own, and the method's in a text of N tokens. */
  readonly before: number;
  readonly after: number;
  /** Turns within the distances trained on. */
  readonly turnsBefore: number;
  readonly turnsAfter: number;
  /** Part of the critical subspace: never completes a turn in training, so most of its angles were never seen there. */
  readonly critical: boolean;
  /** Training saw the angles from 0 to this one, or all of them where the pair is not critical. */
  readonly trainedAngle: number;
  /** The smallest and the largest angle in a text of N tokens under the method. */
  readonly reachedAngle: { readonly least: number; readonly most: number };
  /** Every angle met at N tokens was seen in training. */
  readonly inDistribution: boolean;
}

export interface RotaryPairs {
  /** N, tokens. */
  readonly length: number;
  /** Distances trained on, tokens: T; all positions where an extension was part of the training; at most a sliding window that every layer has. */
  readonly trainedReach: number;
  /** Factor on cos and sin under the method. */
  readonly amplitude: number;
  /** g(m, n) over the whole text: its smallest and largest value. */
  readonly distance: { readonly least: number; readonly most: number };
  readonly pairs: readonly RotaryPair[];
}

/**
 * Which rotary pairs never complete a turn in the trained window, and where a method takes each of them in a text of
 * `length` tokens (4 T unless given). A pair is out of distribution when it meets angles that training never had, which
 * only critical pairs can. The pairs behind the critical dimension of Liu et al., "Scaling Laws of RoPE-based
 * Extrapolation", 2023 (arXiv:2310.05209). @throws LongctxError
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
    const slack = 1e-12 * trainedAngle; // T/s · s is not always T
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

/** The farthest two tokens were apart in training, and the checkpoint's table for such texts. */
function trainedOn({ config, trainedWindow }: ModelContext): { reach: number; table: FrequencyTable } {
  const { rope, maxPositions, slidingWindows } = config;
  const extended = rope.type !== "default" && rope.type !== "dynamic"; // dynamic NTK is for models not trained on it
  const length = extended ? Math.max(trainedWindow, maxPositions) : trainedWindow;
  const widest = largest(slidingWindows.map((window) => window ?? Infinity));
  return { reach: Math.min(length, widest), table: checkpointFrequencies(rope, maxPositions, length) };
}

/** The smallest and largest distance between a query and a token it sees through a segment; null when none does. */
function distanceRange(segment: Segment, length: number): { least: number; most: number } | null {
  const { tokens, band, queries, keyPosition, queryPosition } = segment;
  const listed = tokens instanceof Int32Array;
  const first = listed ? 0 : Math.max(0, tokens.from);
  const end = listed ? tokens.length : Math.min(tokens.to, length);
  const tokenAt = (index: number): number => (listed ? tokens[index] : index);
  // What query m sees is a window that only moves forward; the queues hold the candidates for its extremes.
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
    const gone = (index: number): boolean => m - tokenAt(index) >= band.to;
    const [lowest, highest] = [low.first(gone), high.first(gone)];
    if (lowest === undefined || highest === undefined) continue;
    const query = queryPosition.at(m);
    least = Math.min(least, query - highest);
    most = Math.max(most, query - lowest);
  }
  return most === -Infinity ? null : { least, most };
}

/** The best value of a window that only moves forward, in constant time a step on average. */
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

  first(gone: (index: number) => boolean): number | undefined {
    while (this.#head < this.#entries.length && gone(this.#entries[this.#head].index)) this.#head++;
    return this.#entries[this.#head]?.value;
  }
}

// Spreading into Math.min overflows the stack where a plan has very many segments.
function smallest(values: readonly number[]): number {
  return values.reduce((least, value) => Math.min(least, value), Infinity);
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), -Infinity);
}
