import { expect, it } from "vitest";
import { constantPosition, EVERYTHING, makeTable, TEXT_POSITION, type Segment } from "@longctx/core";
import { DenseAttention } from "../src/reference/dense-attention.ts";
import { printed, VECTORS } from "./published-vectors.ts";

const HEAD = { queryHeads: 1, keyHeads: 1, headSize: 2 };
const QUERY = Float64Array.of(Math.SQRT2, 0); // so that q·k / √D is the key's first channel
const SCORES = [1, 2, 3];
const VALUES = [1, 0, 10];

const near: Segment = {
  tokens: { from: 2, to: 3 },
  table: makeTable(Float64Array.of(0)), // turns nothing: the scores are those above
  queryPosition: TEXT_POSITION,
  keyPosition: TEXT_POSITION,
  band: EVERYTHING,
};
const far: Segment = {
  ...near,
  tokens: { from: 0, to: 2 },
  queryPosition: constantPosition(7),
  keyPosition: constantPosition(0),
};

/** What the query of the last token gets through some segments. */
function attended(...segments: Segment[]): number {
  const keys = Float64Array.from(SCORES.flatMap((score) => [score, 0]));
  const [{ tokens, probabilities }] = new DenseAttention(HEAD, { segments }, [0, 1, 2], keys).row(2, QUERY);
  return tokens.reduce((sum, n, j) => sum + probabilities[j] * VALUES[n], 0);
}

it("the reference's one softmax over disjoint segments is the log-sum-exp merge of a softmax each", () => {
  const sums = [far, near].map(({ tokens }) => {
    const { from, to } = tokens as { from: number; to: number };
    return Math.log(SCORES.slice(from, to).reduce((sum, score) => sum + Math.exp(score), 0));
  });
  expect(printed(sums)).toEqual([2.313262, 3]);
  const weights = sums.map((sum) => Math.exp(sum - Math.max(...sums)));
  const merged = weights[0] * attended(far) + weights[1] * attended(near);
  expect(printed([merged / (weights[0] + weights[1])])).toEqual([VECTORS.lse_merge]);
  expect(printed([attended(far, near)])).toEqual([VECTORS.lse_merge]);
});
