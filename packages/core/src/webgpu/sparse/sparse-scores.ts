import type { AttentionShape } from "../attention/attention-shape.ts";

/** WGSL of the scores of keys, for kernels that have a row's `query` in workgroup memory and bind `turns`. */

/** Returns whether rotary pairs are turned four at a time, as keys and queries are read. */
export function turnsByFours({ pairs }: Pick<AttentionShape, "pairs">): boolean {
  return pairs % 4 === 0;
}

/** `scoreOf(row, turn, step)`: the product of the query, turned by a row of angles unless `turn` is `NONE`, and a key. */
export function scoreCode(shape: Pick<AttentionShape, "pairs">): string {
  return turnsByFours(shape) ? TURNED_BY_FOURS : TURNED;
}

/** `lengthOfQuery()` and `cosineOf(row)`, the product of the query and a key over the key's length; of at least 1e-6 both. */
export const COSINE_CODE = `fn lengthOfQuery() -> f32 {
  var squares = 0.0;
  for (var quad = 0u; quad < uniforms.quads; quad++) { squares += dot(query[quad], query[quad]); }
  return max(sqrt(squares), 1e-6);
}

fn cosineOf(row: u32) -> f32 {
  var product = 0.0;
  var squares = 0.0;
  for (var quad = 0u; quad < uniforms.quads; quad++) {
    let key = readKeys(row + quad);
    product += dot(query[quad], key);
    squares += dot(key, key);
  }
  return product / max(sqrt(squares), 1e-6);
}
`;

/** The product of the query and a key, with the query turned by a row of angles unless the run has none. */
const STRAIGHT = `fn scoreOf(row: u32, turn: u32, step: u32) -> f32 {
  var score = 0.0;
  if (turn == NONE) {
    for (var quad = 0u; quad < uniforms.quads; quad++) { score += dot(query[quad], readKeys(row + quad)); }
    return score;
  }
  let angle = (turn + step) * uniforms.pairs;
`;

/** Pairs (i, i + d/2): (q_i cos − q_j sin) k_i + (q_j cos + q_i sin) k_j. */
const TURNED_BY_FOURS = `${STRAIGHT}  let half = uniforms.pairs / 4u;
  for (var quad = 0u; quad < half; quad++) {
    let turned = array(turns[angle + 4u * quad], turns[angle + 4u * quad + 1u], turns[angle + 4u * quad + 2u], turns[angle + 4u * quad + 3u]);
    let cosines = vec4f(turned[0].x, turned[1].x, turned[2].x, turned[3].x);
    let sines = vec4f(turned[0].y, turned[1].y, turned[2].y, turned[3].y);
    let first = query[quad];
    let second = query[half + quad];
    score += dot(first * cosines - second * sines, readKeys(row + quad));
    score += dot(second * cosines + first * sines, readKeys(row + half + quad));
  }
  for (var quad = 2u * half; quad < uniforms.quads; quad++) { score += dot(query[quad], readKeys(row + quad)); }
  return score;
}

`;

const TURNED = `${STRAIGHT}  for (var channel = 0u; channel < uniforms.headSize; channel++) {
    var value = query[channel / 4u][channel % 4u];
    if (channel < uniforms.pairs) {
      let other = channel + uniforms.pairs;
      let turned = turns[angle + channel];
      value = value * turned.x - query[other / 4u][other % 4u] * turned.y;
    } else if (channel < 2u * uniforms.pairs) {
      let other = channel - uniforms.pairs;
      let turned = turns[angle + other];
      value = value * turned.x + query[other / 4u][other % 4u] * turned.y;
    }
    score += value * readKeys(row + channel / 4u)[channel % 4u];
  }
  return score;
}

`;
