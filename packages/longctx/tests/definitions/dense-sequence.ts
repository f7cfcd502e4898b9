import { denseForward, type Llama, type QueriesKeysValues } from "./dense-llama.ts";

/**
 * A text read piece by piece in float64, for definitions in which a query's view depends on what was read before it. Keys
 * and values are kept as they were when they were read.
 */

/** What a layer keeps of every token. */
export interface Kept {
  /** A row [K·D] for each token, before the rotation. */
  readonly keys: Float64Array[];
  readonly values: Float64Array[];
  /** The attention probability [K] that each token received, where a definition counts it. */
  readonly mass: Float64Array[];
}

/** Tokens [first, first + count) of the text, which a definition treats together. */
export interface Group {
  readonly first: number;
  readonly count: number;
}

/** A group on its way through a layer. */
export interface Passage {
  readonly layer: number;
  readonly group: Group;
  /** Queries [count, H·D] before the rotation. */
  readonly q: Float64Array;
  /** Everything up to the group's last token. */
  readonly kept: Kept;
}

/** A definition of attention. */
export interface Rule {
  /** The number of tokens in a group. */
  readonly groupSize: number;
  /** Returns what the group's heads attended to, [count, H·D]. */
  attend(passage: Passage): Float64Array;
}

/** The groups of one call that reads tokens [from, to) of the text: groups end at multiples of `size` and with the call. */
export function groupsOf(from: number, to: number, size: number): Group[] {
  const groups: Group[] = [];
  for (let first = from; first < to;) {
    const end = Number.isFinite(size) ? Math.min(to, (Math.floor(first / size) + 1) * size) : to;
    groups.push({ first, count: end - first });
    first = end;
  }
  return groups;
}

/** A sequence read under a definition. */
export class DenseSequence {
  readonly #llama: Llama;
  readonly #rule: Rule;
  readonly #layers: readonly Kept[];

  constructor(llama: Llama, rule: Rule, layers?: readonly Kept[]) {
    this.#llama = llama;
    this.#rule = rule;
    this.#layers = layers ?? Array.from({ length: llama.layers }, () => ({ keys: [], values: [], mass: [] }));
  }

  get length(): number {
    return this.#layers[0].keys.length;
  }

  /** What a layer keeps. */
  kept(layer: number): Kept {
    return this.#layers[layer];
  }

  /** Logits [T, V] of tokens that are read by as many a call of prefill as given. */
  read(ids: readonly number[], calls: readonly number[] = [ids.length]): Float64Array {
    const begin = this.length;
    const logits = new Float64Array(ids.length * this.#llama.vocabSize);
    for (const count of calls)
      for (const group of groupsOf(this.length, this.length + count, this.#rule.groupSize)) {
        const from = group.first - begin;
        const part = ids.slice(from, from + group.count);
        const rows = denseForward(this.#llama, part, (layer, heads) => this.#attend(layer, group, heads));
        logits.set(rows, from * this.#llama.vocabSize);
      }
    if (this.length !== begin + ids.length) throw new Error(`${this.length - begin} of ${ids.length} tokens`);
    return logits;
  }

  truncate(length: number): void {
    for (const { keys, values, mass } of this.#layers) for (const rows of [keys, values, mass]) rows.length = length;
  }

  /** Returns a copy, which goes on under another rule where one is given. */
  fork(rule: Rule = this.#rule): DenseSequence {
    const layers = this.#layers.map(({ keys, values, mass }) => ({
      keys: keys.slice(),
      values: values.slice(),
      mass: mass.map((row) => row.slice()),
    }));
    return new DenseSequence(this.#llama, rule, layers);
  }

  #attend(layer: number, group: Group, { q, k, v }: QueriesKeysValues): Float64Array {
    const { keyHeads, headSize } = this.#llama;
    const kept = this.#layers[layer];
    const size = keyHeads * headSize;
    for (let i = 0; i < group.count; i++) {
      kept.keys.push(k.slice(i * size, (i + 1) * size));
      kept.values.push(v.slice(i * size, (i + 1) * size));
      kept.mass.push(new Float64Array(keyHeads));
    }
    return this.#rule.attend({ layer, group, q, kept });
  }
}
