import {
  attentionScaleOf,
  type FrequencyTable,
  type LayerView,
  type ModelConfig,
  type PositionRule,
  type Segment,
} from "@longctx/core";

/** The rotation under which some tokens are met: a frequency table, and the positions of queries and keys. */
export type Meeting = Pick<Segment, "table" | "queryPosition" | "keyPosition">;

/** Cosines and sines [tokens, d/2] of keys' angles, with the table's amplitude. */
interface KeyAngles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** Keeps the angles of keys by table and rule, since all layers of a chunk need the same ones. */
export class KeyAngleCache {
  #known = new Map<string, KeyAngles>();

  /** Returns the angles of at least tokens [0, count). */
  of(table: FrequencyTable, rule: PositionRule, count: number): KeyAngles {
    const id = `${table.id}|${rule.id}`;
    const half = table.inverse.length;
    const known = this.#known.get(id);
    if (known && known.cos.length >= count * half) return known;
    if (this.#known.size >= MOST_TABLES) this.#known.clear(); // tables that follow the length are new ones for each chunk
    const made = { cos: new Float32Array(count * half), sin: new Float32Array(count * half) };
    for (let token = 0, at = 0; token < count; token++) {
      const position = rule.at(token);
      for (let i = 0; i < half; i++, at++) {
        made.cos[at] = Math.cos(position * table.inverse[i]) * table.amplitude;
        made.sin[at] = Math.sin(position * table.inverse[i]) * table.amplitude;
      }
    }
    this.#known.set(id, made);
    return made;
  }
}

const MOST_TABLES = 8;

/**
 * Exact attention of single queries of a layer over tokens [0, count) of the text, on the host: the keys are rotated once
 * for each table and rule, products are summed in float64.
 */
export class ExactAttention {
  readonly #config: ModelConfig;
  readonly #angles: KeyAngleCache;
  readonly #count: number;
  /** Without rotation, [K, n, D]. */
  readonly #keys: Float32Array;
  /** [K, n, D] */
  readonly #values: Float32Array;
  /** The chunk's queries without rotation, [T, H, D]. */
  readonly #queries: Float32Array;
  readonly #first: number;
  readonly #rotated = new Map<string, Float32Array>();

  constructor(config: ModelConfig, view: LayerView, count: number, angles: KeyAngleCache) {
    this.#config = config;
    this.#angles = angles;
    this.#count = count;
    this.#keys = byHead(view.keys({ from: 0, to: count }), count, config);
    this.#values = byHead(view.values({ from: 0, to: count }), count, config);
    this.#queries = view.queries();
    this.#first = view.first;
  }

  /**
   * Writes the attention scores of query m in a query head for tokens [from, to), or for those of a list, into `scores`
   * [n], which it indexes by token.
   */
  score(
    query: number,
    head: number,
    { table, queryPosition, keyPosition }: Meeting,
    temperature: number,
    tokens: { readonly from: number; readonly to: number } | ArrayLike<number>,
    scores: Float64Array,
  ): void {
    const { headSize: D, attentionSoftCap: cap } = this.#config;
    const q = this.#turnedQuery(query, head, table, queryPosition);
    const keys = this.#rotatedKeys(table, keyPosition);
    const base = this.#keyHeadOf(head) * this.#count * D;
    const factor = attentionScaleOf(this.#config) * temperature;
    const range = "from" in tokens;
    const count = range ? tokens.to - tokens.from : tokens.length;
    for (let i = 0; i < count; i++) {
      const token = range ? tokens.from + i : tokens[i];
      const score = dot(q, keys, base + token * D) * factor;
      scores[token] = cap === undefined ? score : cap * Math.tanh(score / cap);
    }
  }

  /** Returns Σ p(n) · v(n) [D] of a query head over tokens [from, to), for probabilities p [n]. */
  mix(head: number, probabilities: Float64Array, from: number, to: number): Float64Array {
    const { headSize: D } = this.#config;
    const output = new Float64Array(D);
    const values = this.#values;
    let at = (this.#keyHeadOf(head) * this.#count + from) * D;
    for (let token = from; token < to; token++, at += D) {
      const p = probabilities[token];
      if (p === 0) continue;
      for (let i = 0; i < D; i++) output[i] += p * values[at + i];
    }
    return output;
  }

  #keyHeadOf(head: number): number {
    const { queryHeads, keyHeads } = this.#config;
    return Math.floor((head * keyHeads) / queryHeads);
  }

  #turnedQuery(query: number, head: number, { inverse, amplitude }: FrequencyTable, rule: PositionRule): Float64Array {
    const { headSize: D, queryHeads } = this.#config;
    const at = ((query - this.#first) * queryHeads + head) * D;
    const q = Float64Array.from(this.#queries.subarray(at, at + D));
    const position = rule.at(query);
    const half = inverse.length;
    for (let i = 0; i < half; i++) {
      const [cos, sin] = [Math.cos(position * inverse[i]) * amplitude, Math.sin(position * inverse[i]) * amplitude];
      const [a, b] = [q[i], q[half + i]];
      q[i] = a * cos - b * sin;
      q[half + i] = b * cos + a * sin;
    }
    return q;
  }

  #rotatedKeys(table: FrequencyTable, rule: PositionRule): Float32Array {
    const id = `${table.id}|${rule.id}`;
    const known = this.#rotated.get(id);
    if (known) return known;
    const { headSize: D, keyHeads } = this.#config;
    const { cos, sin } = this.#angles.of(table, rule, this.#count);
    const half = table.inverse.length;
    const keys = this.#keys;
    const made = keys.slice();
    for (let head = 0, at = 0; head < keyHeads; head++)
      for (let token = 0, angle = 0; token < this.#count; token++, at += D, angle += half)
        for (let i = 0; i < half; i++) {
          const [a, b] = [keys[at + i], keys[at + half + i]];
          made[at + i] = a * cos[angle + i] - b * sin[angle + i];
          made[at + half + i] = b * cos[angle + i] + a * sin[angle + i];
        }
    this.#rotated.set(id, made);
    return made;
  }
}

/** Turns scores [n] of tokens [from, to) into probabilities, in place. */
export function softmax(scores: Float64Array, from: number, to: number): void {
  let largest = -Infinity;
  for (let i = from; i < to; i++) if (scores[i] > largest) largest = scores[i];
  let sum = 0;
  for (let i = from; i < to; i++) sum += scores[i] = Math.exp(scores[i] - largest);
  for (let i = from; i < to; i++) scores[i] /= sum;
}

/** Reorders rows [n, K, D] as [K, n, D], so that the tokens of a head lie in a row. */
function byHead(rows: Float32Array, count: number, { keyHeads, headSize }: ModelConfig): Float32Array {
  const out = new Float32Array(rows.length);
  for (let token = 0, at = 0; token < count; token++)
    for (let head = 0; head < keyHeads; head++, at += headSize) {
      const to = (head * count + token) * headSize;
      for (let i = 0; i < headSize; i++) out[to + i] = rows[at + i];
    }
  return out;
}

/** Four sums side by side, so that an addition need not wait for the one before. */
function dot(q: Float64Array, keys: Float32Array, at: number): number {
  const size = q.length;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let i = 0;
  for (; i + 4 <= size; i += 4) {
    a += q[i] * keys[at + i];
    b += q[i + 1] * keys[at + i + 1];
    c += q[i + 2] * keys[at + i + 2];
    d += q[i + 3] * keys[at + i + 3];
  }
  for (; i < size; i++) a += q[i] * keys[at + i];
  return a + b + (c + d);
}
