import { denseForward, type Attention, type Llama, type QueriesKeysValues } from "./dense-llama.ts";

/**
 * Block retrieval (after InfLLM, arXiv:2402.04617) in float64, group by group: a query sees the sinks, its local band, what
 * is in no finished block out of the band, and the blocks that its group's mean query likes best. Keys are kept as they
 * were when they were read, so a text that was truncated inside a group can go on.
 */
export interface Blocks {
  /** Tokens of a block; block j is [sinks + j · size, sinks + (j + 1) · size). */
  readonly size: number;
  /** Blocks that a group may choose. */
  readonly top: number;
  /** Tokens of the band, the query included. */
  readonly local: number;
  readonly sinks: number;
  /** Tokens of a group of the prompt. */
  readonly exec: number;
  readonly positions: "constant" | "ordered";
}

/** A group of tokens that chooses together, [first, first + count). */
export interface Group {
  readonly first: number;
  readonly count: number;
}

/** What a layer knows when a group chooses. */
export interface Candidates {
  readonly layer: number;
  readonly group: Group;
  /** One score a candidate; the candidates are blocks 0, 1, …. */
  readonly scores: readonly number[];
}

/** The chosen blocks. */
export type Chooser = (candidates: Candidates) => readonly number[];

/** Groups of one call that reads tokens [from, to) of the text: they end at multiples of `exec` and with the call. */
export function groupsOf(from: number, to: number, exec: number): Group[] {
  const groups: Group[] = [];
  for (let first = from; first < to;) {
    const end = Math.min(to, (Math.floor(first / exec) + 1) * exec);
    groups.push({ first, count: end - first });
    first = end;
  }
  return groups;
}

/** The `top` largest scores; of equal ones the first block. */
export function best(scores: readonly number[], top: number): number[] {
  const order = scores.map((_, j) => j).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, top).sort((a, b) => a - b);
}

/**
 * How much the worst chosen block is ahead of the best one left out, in units of the largest |score|: negative when a better
 * one was left out, Infinity when nothing was.
 */
export function margin(scores: readonly number[], chosen: readonly number[]): number {
  const left = scores.filter((_, j) => !chosen.includes(j));
  if (left.length === 0 || chosen.length === 0) return Infinity;
  const worst = Math.min(...chosen.map((j) => scores[j]));
  return (worst - Math.max(...left)) / Math.max(...scores.map(Math.abs));
}

/** A sequence read under the definition. */
export class DenseBlocks {
  /** The least margin of a choice so far. */
  margin = Infinity;
  readonly #llama: Llama;
  readonly #blocks: Blocks;
  readonly #attention: Attention;
  readonly #choose: Chooser;
  /** Rows [K·D] of every token and layer. */
  #keys: Float64Array[][];
  #values: Float64Array[][];

  /** `attention` says frequencies and temperature: what the method is composed with, or the plain model. */
  constructor(llama: Llama, blocks: Blocks, attention: Attention, choose?: Chooser) {
    this.#llama = llama;
    this.#blocks = blocks;
    this.#attention = attention;
    this.#choose = choose ?? (({ scores }) => best(scores, blocks.top));
    this.#keys = Array.from({ length: llama.layers }, () => []);
    this.#values = Array.from({ length: llama.layers }, () => []);
  }

  get length(): number {
    return this.#keys[0].length;
  }

  /** Logits [T, V] of tokens that are read by as many a call of prefill as given. */
  read(ids: readonly number[], calls: readonly number[] = [ids.length]): Float64Array {
    const begin = this.length;
    const logits = new Float64Array(ids.length * this.#llama.vocabSize);
    for (const count of calls)
      for (const group of groupsOf(this.length, this.length + count, this.#blocks.exec)) {
        const from = group.first - begin;
        const part = ids.slice(from, from + group.count);
        const rows = denseForward(this.#llama, part, (layer, heads) => this.#attend(layer, group, heads));
        logits.set(rows, from * this.#llama.vocabSize);
      }
    if (this.length !== begin + ids.length) throw new Error(`${this.length - begin} of ${ids.length} tokens`);
    return logits;
  }

  truncate(length: number): void {
    for (const rows of [...this.#keys, ...this.#values]) rows.length = length;
  }

  fork(): DenseBlocks {
    return this.under(this.#blocks, this.#attention, this.#choose);
  }

  /** The same keys and values, read on under other blocks, or composed with something else. */
  under(blocks: Blocks, attention = this.#attention, choose?: Chooser): DenseBlocks {
    const other = new DenseBlocks(this.#llama, blocks, attention, choose);
    other.#keys = this.#keys.map((rows) => rows.slice());
    other.#values = this.#values.map((rows) => rows.slice());
    other.margin = this.margin;
    return other;
  }

  #attend(layer: number, group: Group, { q, k, v }: QueriesKeysValues): Float64Array {
    const { keyHeads, queryHeads, headSize } = this.#llama;
    const [keys, values] = [this.#keys[layer], this.#values[layer]];
    for (let i = 0; i < group.count; i++) {
      keys.push(k.slice(i * keyHeads * headSize, (i + 1) * keyHeads * headSize));
      values.push(v.slice(i * keyHeads * headSize, (i + 1) * keyHeads * headSize));
    }
    const hidden = this.#hiddenBlocks(layer, group, q);
    const out = new Float64Array(q.length);
    for (let i = 0; i < group.count; i++) {
      const m = group.first + i;
      const seen = this.#seenBy(m, hidden);
      const turns = this.#distances(m, seen).map((distance) => this.#turn(distance, m, layer));
      const factor = (this.#attention.amplitude ** 2 * this.#attention.scale(m)) / Math.sqrt(headSize);
      for (let head = 0; head < queryHeads; head++) {
        const at = (i * queryHeads + head) * headSize;
        const atKey = this.#keyHeadOf(head) * headSize;
        const weights = softmax(seen.map((n, s) => factor * score(q, at, keys[n], atKey, turns[s])));
        seen.forEach((n, s) => {
          for (let j = 0; j < headSize; j++) out[at + j] += weights[s] * values[n][atKey + j];
        });
      }
    }
    return out;
  }

  /** Blocks that were candidates and not chosen. */
  #hiddenBlocks(layer: number, group: Group, q: Float64Array): ReadonlySet<number> {
    const { size, local, sinks } = this.#blocks;
    const query = mean(q, group.count);
    const scores: number[] = [];
    for (let j = 0; group.first - (sinks + (j + 1) * size - 1) >= local; j++)
      scores.push(this.#likes(layer, group, query, j));
    const chosen = scores.length === 0 ? [] : this.#choose({ layer, group, scores });
    this.margin = Math.min(this.margin, margin(scores, chosen));
    return new Set(scores.map((_, j) => j).filter((j) => !chosen.includes(j)));
  }

  /** Mean query [H·D] times mean key, summed over all query heads: queries at distance local − 1, keys raw. */
  #likes(layer: number, { first, count }: Group, query: Float64Array, block: number): number {
    const { queryHeads, headSize } = this.#llama;
    const { size, local, sinks } = this.#blocks;
    const from = sinks + block * size;
    const rows = this.#keys[layer].slice(from, from + size);
    const key = rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / size);
    const turn = this.#turn(local - 1, first + count - 1, layer);
    let sum = 0;
    for (let head = 0; head < queryHeads; head++)
      sum += score(query, head * headSize, key, this.#keyHeadOf(head) * headSize, turn);
    return sum;
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

  #turn(distance: number, m: number, layer: number): Turn {
    const half = this.#llama.headSize / 2;
    const [cos, sin] = [new Float64Array(half), new Float64Array(half)];
    for (let i = 0; i < half; i++) {
      const angle = distance * this.#attention.angle(m, m - 1, i, layer); // g(m, m − 1) is 1
      cos[i] = Math.cos(angle);
      sin[i] = Math.sin(angle);
    }
    return { cos, sin };
  }

  #keyHeadOf(queryHead: number): number {
    return Math.floor(queryHead / (this.#llama.queryHeads / this.#llama.keyHeads));
  }
}

/** The angle at which a query is to a key, [D/2]. */
interface Turn {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/** The query at an index, turned, times the key at an index, both [D]. */
function score(queries: Float64Array, atQuery: number, keys: Float64Array, atKey: number, { cos, sin }: Turn): number {
  const half = cos.length;
  let sum = 0;
  for (let i = 0; i < half; i++) {
    const x = queries[atQuery + i];
    const y = queries[atQuery + half + i];
    sum += (x * cos[i] - y * sin[i]) * keys[atKey + i] + (y * cos[i] + x * sin[i]) * keys[atKey + half + i];
  }
  return sum;
}

/** The mean of `count` rows. */
function mean(rows: Float64Array, count: number): Float64Array {
  const sums = new Float64Array(rows.length / count);
  rows.forEach((x, at) => (sums[at % sums.length] += x / count));
  return sums;
}

function softmax(logits: readonly number[]): number[] {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}
