import { bestBlocks, type Choice } from "../method/plan.ts";
import { rotate, type HeadShape } from "./dense-attention.ts";

/**
 * The blocks that a choice takes, ascending: each block's score is Σ_h q_h · k, q being the mean of the asking queries
 * [n, H, D], turned, and k the mean key of the block, [K, D] without rotation. `keys` gives [n, K, D] of tokens [from, to).
 */
export function chooseBlocks(
  choice: Choice,
  { queryHeads, keyHeads, headSize: D }: HeadShape,
  queries: Float64Array,
  keys: (from: number, to: number) => Float64Array,
): number[] {
  const size = queryHeads * D;
  const asking = new Float64Array(size);
  for (let i = 0; i < queries.length; i++) asking[i % size] += queries[i] / (queries.length / size);
  rotate(asking, 0, queryHeads, D, choice.table, choice.position);
  // Keys at position 0 are not turned, but the table's amplitude is theirs too.
  rotate(asking, 0, queryHeads, D, choice.table, 0);
  const scores = Array.from({ length: choice.candidates }, (_, block) => {
    const from = choice.from + block * choice.size;
    const rows = keys(from, from + choice.size);
    let score = 0;
    for (let h = 0; h < queryHeads; h++) {
      const keyHead = Math.floor((h * keyHeads) / queryHeads);
      for (let row = 0; row < choice.size; row++)
        for (let i = 0; i < D; i++)
          score += (asking[h * D + i] * rows[(row * keyHeads + keyHead) * D + i]) / choice.size;
    }
    return score;
  });
  return bestBlocks(scores, choice.count);
}
