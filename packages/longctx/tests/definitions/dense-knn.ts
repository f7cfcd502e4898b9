import { plainly, type Witness } from "./choosing.ts";
import { keyAtZero, keyHeadOf, mixed, product, score, softmax, turned, Turns, type Turn } from "./dense-heads.ts";
import type { Attention, Llama } from "./dense-llama.ts";
import { DenseSequence, type Passage, type Rule } from "./dense-sequence.ts";

/**
 * Token retrieval (after Memorizing Transformers, arXiv:2203.08913) in float64: a query sees the sinks and its window, and
 * each of its heads sees the k tokens between that its logits like best.
 */
export interface Knn {
  /** Layers that retrieve, from 0; others see sinks and window. */
  readonly layers: "all" | readonly number[];
  readonly k: number;
  /** Last tokens that are visible, the query included. */
  readonly window: number;
  /** First tokens that are visible. */
  readonly sinks: number;
  /** One softmax over all, or one of the found tokens alone, mixed by a gate. */
  readonly merge: "joint" | "gate";
  /** Logits of the found tokens: q·k/√D, or scale · q̂·k̂ of length 1, of what is rotated, amplitude included. */
  readonly keys: "raw" | "normalized";
  /** The distance of found tokens: 0, `window`, or as in the text. */
  readonly positions: "none" | "constant" | "true";
  /** What the sigmoid of the gate is taken of. */
  readonly gate: (layer: number, head: number) => number;
  readonly scale: (layer: number, head: number) => number;
}

/** A sequence under the definition; `attention` says frequencies and temperature. */
export function denseKnn(llama: Llama, knn: Knn, attention: Attention, witness: Witness = plainly): DenseSequence {
  return new DenseSequence(llama, knnRule(llama, knn, attention, witness));
}

export function knnRule(llama: Llama, knn: Knn, attention: Attention, witness: Witness): Rule {
  return new KnnRule(llama, knn, attention, witness);
}

/** A token that a head sees, and its logit. */
interface Read {
  readonly token: number;
  readonly logit: number;
}

/** A query head's view of the text. */
interface View {
  readonly layer: number;
  /** The query's text index. */
  readonly m: number;
  readonly head: number;
  /** The query's place in its passage's array. */
  readonly at: number;
  readonly turn: (distance: number) => Turn;
}

class KnnRule implements Rule {
  readonly groupSize = Infinity;
  readonly #llama: Llama;
  readonly #knn: Knn;
  readonly #attention: Attention;
  readonly #witness: Witness;
  readonly #turns: Turns;

  constructor(llama: Llama, knn: Knn, attention: Attention, witness: Witness) {
    this.#llama = llama;
    this.#knn = knn;
    this.#attention = attention;
    this.#witness = witness;
    this.#turns = new Turns(llama, attention);
  }

  attend(passage: Passage): Float64Array {
    const { queryHeads, headSize } = this.#llama;
    const { layer, group, q } = passage;
    const out = new Float64Array(q.length);
    for (let i = 0; i < group.count; i++)
      for (let head = 0; head < queryHeads; head++) {
        const at = (i * queryHeads + head) * headSize;
        const m = group.first + i;
        out.set(this.#head(passage, { layer, m, head, at, turn: this.#turns.at(m, layer) }), at);
      }
    return out;
  }

  /** What a query head attended to, [D]. */
  #head(passage: Passage, view: View): Float64Array {
    const { merge, gate } = this.#knn;
    const { layer, m, head } = view;
    const retrieves = this.#retrieves(layer);
    const near = this.#near(passage, view);
    const found = retrieves ? this.#found(passage, view) : [];
    if (merge === "joint" || !retrieves) {
      const all = [...near, ...found].sort((a, b) => a.token - b.token);
      this.#witness.saw?.(layer, m, head, { softmax: all.map(({ token }) => token), gated: [] });
      return this.#read(passage, head, all);
    }
    const [own, gated] = [near, found].map((reads) => reads.map(({ token }) => token));
    this.#witness.saw?.(layer, m, head, { softmax: own, gated });
    const open = 1 / (1 + Math.exp(-gate(layer, head)));
    const far = this.#read(passage, head, found);
    return this.#read(passage, head, near).map((x, j) => open * far[j] + (1 - open) * x);
  }

  #retrieves(layer: number): boolean {
    return this.#knn.layers === "all" || this.#knn.layers.includes(layer);
  }

  /** Sinks and window, ascending: sinks out of the window are at the window's distance, unless positions are the text's. */
  #near(passage: Passage, view: View): Read[] {
    const { window, sinks, positions } = this.#knn;
    const all = Array.from({ length: view.m + 1 }, (_, n) => n);
    return all
      .filter((n) => n < sinks || view.m - n < window)
      .map((token) => {
        const apart = view.m - token;
        const distance = apart < window || positions === "true" ? apart : window;
        return { token, logit: this.#logit(passage, view, token, distance) };
      });
  }

  /** The best of the tokens between sinks and window, ascending. */
  #found(passage: Passage, view: View): Read[] {
    const { k, window, sinks } = this.#knn;
    const { layer, m, head } = view;
    const store: Read[] = [];
    for (let token = sinks; token <= m - window; token++)
      store.push({ token, logit: this.#farLogit(passage, view, token) });
    if (store.length === 0) return [];
    const candidates = store.map(({ token }) => token);
    const scores = store.map(({ logit }) => logit);
    const chosen = this.#witness.choose({ layer, query: m, heads: [head], candidates, scores, count: k });
    return chosen.map((j) => store[j]);
  }

  #farLogit(passage: Passage, view: View, token: number): number {
    const { positions, window, keys, scale } = this.#knn;
    const distance = { none: 0, constant: window, true: view.m - token }[positions];
    if (keys === "raw") return this.#logit(passage, view, token, distance);
    const { amplitude } = this.#attention;
    const key = passage.kept.keys[token];
    const query = unit(turned(passage.q, view.at, this.#llama, view.turn(distance), amplitude));
    const found = unit(keyAtZero(key, keyHeadOf(this.#llama, view.head), this.#llama, amplitude));
    return scale(view.layer, view.head) * product(query, found);
  }

  /** A logit of attention itself. */
  #logit(passage: Passage, view: View, token: number, distance: number): number {
    const { headSize } = this.#llama;
    const { amplitude } = this.#attention;
    const atKey = keyHeadOf(this.#llama, view.head) * headSize;
    const key = passage.kept.keys[token];
    const sum = score(this.#llama, amplitude, view.turn(distance), passage.q, view.at, key, atKey);
    return (sum * this.#attention.scale(view.m)) / Math.sqrt(headSize);
  }

  #read({ kept }: Passage, head: number, reads: readonly Read[]): Float64Array {
    const { headSize } = this.#llama;
    const weights = softmax(reads.map(({ logit }) => logit));
    const tokens = reads.map(({ token }) => token);
    return mixed(weights, tokens, kept.values, keyHeadOf(this.#llama, head) * headSize, headSize);
  }
}

/** x / |x|. */
export function unit(x: Float64Array): Float64Array {
  const length = Math.sqrt(x.reduce((sum, y) => sum + y * y, 1e-6));
  return x.map((y) => y / length);
}
