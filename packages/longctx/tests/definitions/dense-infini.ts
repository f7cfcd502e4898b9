import { define, type Part, type Text } from "./definitions.ts";
import { attend, denseForward, type Llama, type QueriesKeysValues } from "./dense-llama.ts";

/**
 * Infini-attention (arXiv:2404.07143, equations 7 to 10) over whole texts in float64: each segment of the text attends to
 * itself, reads a compressive memory of the segments before it, and mixes both by a gate. The choices that the paper leaves
 * open are those of docs/methods.md: the memory begins with zeros, a denominator of 0 reads 0, and the gate always applies.
 */
export interface Infini {
  /** Tokens of a segment. */
  readonly segment: number;
  readonly update: "linear" | "delta";
  /** What the sigmoid is taken of. */
  readonly beta: (layer: number, queryHead: number) => number;
}

/** M [dk, dv] and z [dk] of one key head. */
export interface Memory {
  readonly M: readonly Float64Array[];
  readonly z: Float64Array;
}

/** The local branch: causal attention inside a segment, with positions that begin again in each. */
export const insideSegments = (segment: number): Part => ({
  g: (m, n) => (m % segment) - (n % segment),
  visible: (m, n) => n <= m && Math.floor(m / segment) === Math.floor(n / segment),
});

/** σ(x) = ELU(x) + 1. */
export const sigma = (x: ArrayLike<number>): Float64Array =>
  Float64Array.from(x, (value) => (value > 0 ? value + 1 : Math.exp(value)));

export function emptyMemory(dk: number, dv: number): Memory {
  return { M: Array.from({ length: dk }, () => new Float64Array(dv)), z: new Float64Array(dk) };
}

/** σ(x) M / (σ(x) z); zeros when the denominator is 0. */
export function recall({ M, z }: Memory, x: ArrayLike<number>): Float64Array {
  const features = sigma(x);
  const out = new Float64Array(M[0].length);
  let denominator = 0;
  for (let i = 0; i < z.length; i++) {
    denominator += features[i] * z[i];
    for (let j = 0; j < out.length; j++) out[j] += features[i] * M[i][j];
  }
  return denominator === 0 ? out.fill(0) : out.map((numerator) => numerator / denominator);
}

/** The memory after one more segment, of which all keys are answered by the memory from before it. */
export function remember(
  memory: Memory,
  keys: readonly ArrayLike<number>[],
  values: readonly ArrayLike<number>[],
  update: Infini["update"],
): Memory {
  const M = memory.M.map((row) => row.slice());
  const z = memory.z.slice();
  keys.forEach((key, n) => {
    const features = sigma(key);
    const known = recall(memory, key);
    const added = Float64Array.from(values[n], (value, j) => (update === "delta" ? value - known[j] : value));
    for (let i = 0; i < z.length; i++) {
      for (let j = 0; j < added.length; j++) M[i][j] += features[i] * added[j];
      z[i] += features[i];
    }
  });
  return { M, z };
}

/** Logits [T, V]; `parts` is what the method is composed with, which acts on the local branch only. */
export function infiniLogits(
  llama: Llama,
  ids: readonly number[],
  infini: Infini,
  text: Text,
  parts: readonly Part[] = [],
): Float64Array {
  const attention = define([...parts, insideSegments(infini.segment)], text);
  return denseForward(llama, ids, (layer, rows) => {
    const local = attend(llama, ids.length, rows, attention, layer);
    const far = memoryReads(llama, ids.length, rows, infini);
    return local.map((value, at) => {
      const head = Math.floor(at / llama.headSize) % llama.queryHeads;
      const gate = 1 / (1 + Math.exp(-infini.beta(layer, head)));
      return gate * far[at] + (1 - gate) * value;
    });
  });
}

/** What every query reads of the memory of earlier segments, [T, H·D]. */
function memoryReads(
  { queryHeads, keyHeads, headSize }: Llama,
  T: number,
  { q, k, v }: QueriesKeysValues,
  { segment, update }: Infini,
): Float64Array {
  const out = new Float64Array(T * queryHeads * headSize);
  const row = (rows: Float64Array, heads: number, t: number, head: number) =>
    rows.subarray((t * heads + head) * headSize, (t * heads + head + 1) * headSize);
  for (let keyHead = 0; keyHead < keyHeads; keyHead++) {
    let memory = emptyMemory(headSize, headSize);
    for (let first = 0; first < T; first += segment) {
      const tokens = Array.from({ length: Math.min(segment, T - first) }, (_, i) => first + i);
      for (const t of tokens)
        for (let head = 0; head < queryHeads; head++)
          if (Math.floor(head / (queryHeads / keyHeads)) === keyHead)
            row(out, queryHeads, t, head).set(recall(memory, row(q, queryHeads, t, head)));
      const [keys, values] = [k, v].map((rows) => tokens.map((t) => row(rows, keyHeads, t, keyHead)));
      memory = remember(memory, keys, values, update);
    }
  }
  return out;
}
