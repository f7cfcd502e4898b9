import { plainly, type Decision, type Witness } from "./choosing.ts";
import { keyAtZero, keyHeadOf, mixed, product, score, softmax, turned, Turns } from "./dense-heads.ts";
import type { Attention, Llama } from "./dense-llama.ts";
import { DenseSequence, type Group, type Kept, type Passage, type Rule } from "./dense-sequence.ts";

/**
 * Block retrieval (after InfLLM, arXiv:2402.04617) in float64, group by group: a query sees the sinks, its local band, what
 * is in no finished block out of the band, and the blocks that its group likes best.
 */
export interface Blocks {
  /** Tokens of a block; block j is [sinks + j · size, sinks + (j + 1) · size). */
  readonly size: number;
  /** Blocks that are chosen. */
  readonly top: number;
  /** Tokens of the band, the query included. */
  readonly local: number;
  readonly sinks: number;
  /** What stands for a block: its mean key, the mean of its most attended keys, or the bounds of its keys (Quest). */
  readonly representative: "mean" | "salient" | "bounds";
  /** Keys of a salient mean. */
  readonly repr: number;
  readonly positions: "constant" | "ordered";
  /** Who asks: the mean of a group's queries, or each query for itself. */
  readonly query: "chunk" | "token";
  /** Tokens of a group under query=chunk. */
  readonly exec: number;
  /** Which query heads share a choice: all, those of a key head, or none. */
  readonly share: "heads" | "group" | "none";
  /** The heads that ask for all in a layer; all do in layers that it leaves out. */
  readonly askers?: Readonly<Record<number, readonly number[]>>;
}

/** A sequence under the definition; `attention` says frequencies and temperature. */
export function denseBlocks(
  llama: Llama,
  blocks: Blocks,
  attention: Attention,
  witness: Witness = plainly,
): DenseSequence {
  return new DenseSequence(llama, blockRule(llama, blocks, attention, witness));
}

export function blockRule(llama: Llama, blocks: Blocks, attention: Attention, witness: Witness): Rule {
  return new BlockRule(llama, blocks, attention, witness);
}

/** Two tokens of a block whose masses are nearer than this part of each other may change places on a device. */
const CLEAR_MASS = 1e-5;

class BlockRule implements Rule {
  readonly groupSize: number;
  readonly #llama: Llama;
  readonly #blocks: Blocks;
  readonly #attention: Attention;
  readonly #witness: Witness;
  readonly #turns: Turns;

  constructor(llama: Llama, blocks: Blocks, attention: Attention, witness: Witness) {
    this.groupSize = blocks.query === "token" ? 1 : blocks.exec;
    this.#llama = llama;
    this.#blocks = blocks;
    this.#attention = attention;
    this.#witness = witness;
    this.#turns = new Turns(llama, attention);
  }

  attend({ layer, group, q, kept }: Passage): Float64Array {
    const { queryHeads, headSize } = this.#llama;
    const { local, representative } = this.#blocks;
    const { amplitude } = this.#attention;
    const out = new Float64Array(q.length);
    for (const { heads, hidden } of this.#choices({ layer, group, q, kept }))
      for (let i = 0; i < group.count; i++) {
        const m = group.first + i;
        const seen = this.#seenBy(m, hidden);
        const turns = this.#distances(m, seen).map(this.#turns.at(m, layer));
        const temperature = this.#attention.scale(m) / Math.sqrt(headSize);
        for (const head of heads) {
          const keyHead = keyHeadOf(this.#llama, head);
          const at = (i * queryHeads + head) * headSize;
          const weights = softmax(
            seen.map(
              (n, s) => temperature * score(this.#llama, amplitude, turns[s], q, at, kept.keys[n], keyHead * headSize),
            ),
          );
          out.set(mixed(weights, seen, kept.values, keyHead * headSize, headSize), at);
          if (representative === "salient")
            seen.forEach((n, s) => {
              if (m - n < local) kept.mass[n][keyHead] += weights[s];
            });
          this.#witness.saw?.(layer, m, head, { softmax: seen, gated: [] });
        }
      }
    return out;
  }

  /** For each set of heads with a choice of their own, the blocks that were candidates and not chosen. */
  #choices({ layer, group, q, kept }: Passage): { heads: number[]; hidden: ReadonlySet<number> }[] {
    const { size, top, local, sinks, askers } = this.#blocks;
    const firstTokens: number[] = [];
    for (let first = sinks; group.first - (first + size - 1) >= local; first += size) firstTokens.push(first);
    const asking = this.#asking(group, q, layer);
    return this.#sharing().map((heads) => {
      const ask = askers?.[layer] ?? heads;
      const scores = firstTokens.map((first) =>
        ask.reduce((sum, head) => sum + this.#likes(asking[head], head, kept, first), 0),
      );
      const decision: Decision = { layer, query: group.first, heads, candidates: firstTokens, scores, count: top };
      const chosen = scores.length === 0 ? [] : this.#witness.choose(decision);
      return { heads, hidden: new Set(scores.map((_, j) => j).filter((j) => !chosen.includes(j))) };
    });
  }

  /** The sets of query heads that share a choice. */
  #sharing(): number[][] {
    const heads = Array.from({ length: this.#llama.queryHeads }, (_, head) => head);
    if (this.#blocks.share === "heads") return [heads];
    if (this.#blocks.share === "none") return heads.map((head) => [head]);
    const groups = Array.from({ length: this.#llama.keyHeads }, (_, keyHead) => keyHead);
    return groups.map((keyHead) => heads.filter((head) => keyHeadOf(this.#llama, head) === keyHead));
  }

  /** The mean of a group's queries [D] for each query head, at distance local − 1 of what is looked up. */
  #asking({ first, count }: Group, q: Float64Array, layer: number): Float64Array[] {
    const { queryHeads, headSize } = this.#llama;
    const mean = new Float64Array(queryHeads * headSize);
    q.forEach((x, at) => (mean[at % mean.length] += x / count));
    const turn = this.#turns.at(first + count - 1, layer)(this.#blocks.local - 1);
    return Array.from({ length: queryHeads }, (_, head) =>
      turned(mean, head * headSize, this.#llama, turn, this.#attention.amplitude),
    );
  }

  /** How much a query [D] of a query head likes a block: keys are as they are at position 0. */
  #likes(query: Float64Array, head: number, { keys, mass }: Kept, first: number): number {
    const { size, representative, repr } = this.#blocks;
    const keyHead = keyHeadOf(this.#llama, head);
    const tokens = Array.from({ length: size }, (_, i) => first + i);
    const key = (n: number) => keyAtZero(keys[n], keyHead, this.#llama, this.#attention.amplitude);
    if (representative === "bounds") return upperBound(query, tokens.map(key));
    if (representative === "mean") return product(query, meanOf(tokens.map(key)));
    const masses = tokens.map((n) => mass[n][keyHead]);
    return product(query, meanOf(mostAttended(masses, repr).map((i) => key(tokens[i]))));
  }

  /** The tokens that query m sees: all but those of hidden blocks. */
  #seenBy(m: number, hidden: ReadonlySet<number>): number[] {
    const { size, sinks } = this.#blocks;
    const all = Array.from({ length: m + 1 }, (_, n) => n);
    return all.filter((n) => n < sinks || !hidden.has(Math.floor((n - sinks) / size)));
  }

  #distances(m: number, seen: readonly number[]): number[] {
    const { local, positions } = this.#blocks;
    if (positions === "ordered") return seen.map((_, rank) => seen.length - 1 - rank);
    return seen.map((n) => Math.min(m - n, local - 1));
  }
}

/** The largest product that a query could have with a key inside the bounds of some keys (Quest, arXiv:2406.10774). */
export function upperBound(query: ArrayLike<number>, keys: readonly ArrayLike<number>[]): number {
  return Array.from(query).reduce((sum, x, c) => {
    const channel = keys.map((key) => key[c]);
    return sum + Math.max(x * Math.min(...channel), x * Math.max(...channel));
  }, 0);
}

/** The indices of the `count` largest masses; of equal ones the first. @throws Error where the last one is not clear */
export function mostAttended(masses: readonly number[], count: number): number[] {
  const order = masses.map((_, i) => i).sort((a, b) => masses[b] - masses[a] || a - b);
  if (count < masses.length) {
    const [last, next] = [masses[order[count - 1]], masses[order[count]]];
    if (last - next < CLEAR_MASS * last)
      throw new Error(`The masses ${last} and ${next} are too near: take another seed`);
  }
  return order.slice(0, count);
}

function meanOf(rows: readonly Float64Array[]): Float64Array {
  return rows[0].map((_, c) => rows.reduce((sum, row) => sum + row[c], 0) / rows.length);
}
