import { compose, type FrequencyTable, type Method, type RopeConfig } from "@longctx/core";
import { tinyConfig } from "../../core/tests/tiny-model.ts";

/** The head of a model: d channels are rotated, with the base b (10,000), after training on T tokens (2,048). */
export interface Head {
  readonly d: number;
  readonly base?: number;
  readonly trainedWindow?: number;
}

/** A method's table for a text of `length` tokens. */
export function tableOf(method: Method, head: Head, length = 1): FrequencyTable {
  const { d, base = 1e4, trainedWindow = 2048 } = head;
  const rope: RopeConfig = { type: "default", base, rotarySize: d };
  const config = tinyConfig({ headSize: d, rope, trainedWindow, maxPositions: trainedWindow });
  return compose(method).table({ config, trainedWindow }, length);
}

/** The largest |actual − expected| / |expected|, where 0 against 0 counts as 0. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  return Array.from(expected).reduce((largest, value, i) => {
    const off = Math.abs(actual[i] - value);
    return Math.max(largest, off === 0 ? 0 : off / Math.abs(value));
  }, 0);
}
