import { QUERIES, type Collected } from "./collect.ts";

/** How a query meets far keys: at the window's distance, or where both are in the text. */
export type Positions = "constant" | "true";

/** What token retrieval asks of one key head: keys of the store, and queries of the heads that share them. */
export interface Asked {
  readonly layer: number;
  readonly head: number;
  /** [n, D] of tokens from SINKS on. */
  readonly keys: Float32Array;
  /** Of some of the last tokens, [G, D]. */
  readonly queries: readonly Float32Array[];
  /** Queries [n, D] at an earlier place in the text, which the graph knows when it is built. */
  readonly examples: Float32Array;
}

export interface AskedOptions {
  readonly layer: number;
  readonly head: number;
  readonly length: number;
  readonly window: number;
  readonly positions: Positions;
  readonly step: number;
}

/** Tokens that every query sees anyway, at the beginning of the text. */
export const SINKS = 4;

/**
 * Keys that left the window before the first of the queries, and the queries of every `step`-th token of the second half
 * of those that were kept; examples are the first half of those at the shortest length.
 */
export function askedOf(collected: Collected, { layer, head, length, window, positions, step }: AskedOptions): Asked {
  const { queryHeads, keyHeads, headSize: size } = collected.config;
  const first = length - QUERIES;
  const count = first - window - SINKS;
  const all = collected.keys(layer);
  const keys = new Float32Array(count * size);
  const turn = turning(collected.frequencies);
  for (let row = 0; row < count; row++) {
    const at = ((row + SINKS) * keyHeads + head) * size;
    const key = all.subarray(at, at + size);
    keys.set(positions === "true" ? turn(key, row + SINKS) : key, row * size);
  }
  const group = queryHeads / keyHeads;
  const queriesOf = (end: number, tokens: readonly number[]) => {
    const rowsOf = collected.queries(layer, end);
    return tokens.map((token) => {
      const turned = new Float32Array(group * size);
      for (let i = 0; i < group; i++) {
        const at = (token * queryHeads + head * group + i) * size;
        const position = positions === "true" ? end - QUERIES + token : window;
        turned.set(turn(rowsOf.subarray(at, at + size), position), i * size);
      }
      return turned;
    });
  };
  const tokens = Array.from({ length: QUERIES }, (_, token) => token);
  const half = QUERIES / 2;
  const shortest = queriesOf(collected.shortest, tokens.slice(0, half));
  const examples = new Float32Array(half * group * size);
  shortest.forEach((rows, i) => examples.set(rows, i * group * size));
  return {
    layer,
    head,
    keys,
    queries: queriesOf(
      length,
      tokens.filter((token) => token >= half && token % step === 0),
    ),
    examples,
  };
}

/** Rotates a row [D] to a position; channel i belongs to channel i + D/2. */
function turning(frequencies: ArrayLike<number>): (row: Float32Array, position: number) => Float32Array {
  return (row, position) => {
    const half = row.length / 2;
    const out = new Float32Array(row.length);
    for (let i = 0; i < half; i++) {
      const [cos, sin] = [Math.cos(position * frequencies[i]), Math.sin(position * frequencies[i])];
      out[i] = row[i] * cos - row[i + half] * sin;
      out[i + half] = row[i + half] * cos + row[i] * sin;
    }
    return out;
  };
}
