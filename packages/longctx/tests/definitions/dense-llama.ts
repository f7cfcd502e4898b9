import { readFileSync } from "node:fs";

/**
 * The judge of every method: a Llama (or Mistral) checkpoint read from its safetensors and computed in float64 with full
 * T × T loops. It knows no cache, chunks, segments or positions, and shares no code with what it judges: a method is the
 * five formulas of `Attention`.
 */

/** What a method does to attention, for the query at text index m, the key at text index n, rotary pair i and a layer. */
export interface Attention {
  /** Radians by which the query is turned against the key. */
  angle(m: number, n: number, i: number, layer: number): number;
  visible(m: number, n: number): boolean;
  /** Multiplies the scores of query m, beside 1/√D. */
  scale(m: number): number;
  /** Multiplies cos and sin of queries and of keys. */
  readonly amplitude: number;
}

/** Queries [T, H·D] of a layer before the rotation, keys and values [T, K·D]. */
export interface QueriesKeysValues {
  readonly q: Float64Array;
  readonly k: Float64Array;
  readonly v: Float64Array;
}

export interface Llama {
  readonly hiddenSize: number;
  readonly queryHeads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  /** The first channels of a head, which are rotated; the others stay as they are and take no amplitude. */
  readonly rotarySize: number;
  readonly feedForwardSize: number;
  readonly layers: number;
  readonly vocabSize: number;
  readonly epsilon: number;
  readonly base: number;
  readonly maxPositions: number;
  /** Tokens a query sees under the checkpoint's own config, itself included; Infinity for all. */
  readonly slidingWindow: number;
  /** Between the gate and the up product of the feed-forward network. */
  readonly activation: (x: number) => number;
  /** RMS norm of each head's queries and keys (Qwen3). */
  readonly queryKeyNorm: boolean;
  /** A tensor under the name in the file, float32. */
  tensor(name: string): Float32Array;
}

/** `config.json` and `model.safetensors` of a folder in Hugging Face layout, float32 weights. */
export function readLlama(folder: string): Llama {
  const config = JSON.parse(readFileSync(`${folder}/config.json`, "utf8")) as {
    [name: string]: number;
  } & { rope_parameters: { rope_theta: number }; sliding_window?: number; hidden_act: string };
  const file = readFileSync(`${folder}/model.safetensors`);
  const begin = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, begin)) as Record<string, { data_offsets: [number, number] }>;
  return {
    hiddenSize: config.hidden_size,
    queryHeads: config.num_attention_heads,
    keyHeads: config.num_key_value_heads,
    headSize: config.head_dim,
    rotarySize: config.head_dim,
    feedForwardSize: config.intermediate_size,
    layers: config.num_hidden_layers,
    vocabSize: config.vocab_size,
    epsilon: config.rms_norm_eps,
    base: config.rope_parameters.rope_theta,
    maxPositions: config.max_position_embeddings,
    slidingWindow: config.sliding_window ?? Infinity,
    activation: ACTIVATIONS[config.hidden_act],
    queryKeyNorm: "model.layers.0.self_attn.q_norm.weight" in header,
    tensor: remembered((name) => {
      const [from, to] = header[name].data_offsets;
      return new Float32Array(Uint8Array.from(file.subarray(begin + from, begin + to)).buffer);
    }),
  };
}

/** One answer for each name. */
export function remembered(read: (name: string) => Float32Array): (name: string) => Float32Array {
  const known = new Map<string, Float32Array>();
  return (name) => known.get(name) ?? known.set(name, read(name)).get(name)!;
}

const ACTIVATIONS: Readonly<Record<string, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => (x * (1 + errorFunction(x / Math.SQRT2))) / 2,
};

/** erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)), whose terms all have one sign. */
function errorFunction(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let [sum, term] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** Logits [T, V] of a text read under a method's definition. */
export function denseLogits(llama: Llama, ids: readonly number[], attention: Attention): Float64Array {
  return denseForward(llama, ids, (layer, rows) => attend(llama, ids.length, rows, attention, layer));
}

/** Logits [T, V] of some tokens, when `mix` answers what a layer's heads attended to, [T, H·D]. */
export function denseForward(
  llama: Llama,
  ids: readonly number[],
  mix: (layer: number, rows: QueriesKeysValues) => Float64Array,
): Float64Array {
  const { hiddenSize, feedForwardSize, vocabSize, epsilon, activation } = llama;
  const T = ids.length;
  const embedding = llama.tensor("model.embed_tokens.weight");
  const hidden = new Float64Array(T * hiddenSize);
  ids.forEach((id, t) => hidden.set(embedding.subarray(id * hiddenSize, (id + 1) * hiddenSize), t * hiddenSize));

  for (let layer = 0; layer < llama.layers; layer++) {
    const weight = (name: string) => llama.tensor(`model.layers.${layer}.${name}.weight`);
    const input = rmsNorm(hidden, weight("input_layernorm"), epsilon);
    const heads = (name: string) => {
      const rows = product(input, weight(`self_attn.${name}_proj`), hiddenSize);
      return llama.queryKeyNorm && name !== "v" ? rmsNorm(rows, weight(`self_attn.${name}_norm`), epsilon) : rows;
    };
    const mixed = mix(layer, { q: heads("q"), k: heads("k"), v: heads("v") });
    add(hidden, product(mixed, weight("self_attn.o_proj"), llama.queryHeads * llama.headSize));
    const middle = rmsNorm(hidden, weight("post_attention_layernorm"), epsilon);
    const gate = product(middle, weight("mlp.gate_proj"), hiddenSize);
    const up = product(middle, weight("mlp.up_proj"), hiddenSize);
    const active = gate.map((x, j) => activation(x) * up[j]);
    add(hidden, product(active, weight("mlp.down_proj"), feedForwardSize));
  }
  const last = rmsNorm(hidden, llama.tensor("model.norm.weight"), epsilon);
  const logits = product(last, llama.tensor("lm_head.weight"), hiddenSize);
  if (logits.length !== T * vocabSize) throw new Error(`${logits.length} logits`);
  return logits;
}

interface Rotations {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
  /** [T, T], 1 where m sees n. */
  readonly seen: Uint8Array;
}

/** cos and sin [T, T, R/2] for R rotated channels, the same in every head. */
function rotations({ rotarySize }: Llama, T: number, attention: Attention, layer: number): Rotations {
  const half = rotarySize / 2;
  const cos = new Float64Array(T * T * half);
  const sin = new Float64Array(T * T * half);
  const seen = new Uint8Array(T * T);
  for (let m = 0; m < T; m++)
    for (let n = 0; n < T; n++) {
      if (!attention.visible(m, n)) continue;
      seen[m * T + n] = 1;
      for (let i = 0; i < half; i++) {
        const angle = attention.angle(m, n, i, layer);
        cos[(m * T + n) * half + i] = Math.cos(angle);
        sin[(m * T + n) * half + i] = Math.sin(angle);
      }
    }
  return { cos, sin, seen };
}

/** softmax(scale · (R(angle) q)·k / √D) v for every head, [T, H·D]; rotated channels have the factor amplitude². */
export function attend(
  llama: Llama,
  T: number,
  { q, k, v }: QueriesKeysValues,
  attention: Attention,
  layer: number,
): Float64Array {
  const { queryHeads, keyHeads, headSize, rotarySize } = llama;
  const { scale, amplitude } = attention;
  const { cos, sin, seen } = rotations(llama, T, attention, layer);
  const half = rotarySize / 2;
  const out = new Float64Array(T * queryHeads * headSize);
  for (let head = 0; head < queryHeads; head++) {
    const keyHead = Math.floor(head / (queryHeads / keyHeads));
    for (let m = 0; m < T; m++) {
      const atQuery = (m * queryHeads + head) * headSize;
      const scores = new Float64Array(T).fill(-Infinity);
      for (let n = 0; n < T; n++) {
        if (!seen[m * T + n]) continue;
        const atKey = (n * keyHeads + keyHead) * headSize;
        let score = 0;
        for (let i = 0; i < half; i++) {
          const c = cos[(m * T + n) * half + i];
          const s = sin[(m * T + n) * half + i];
          const x = q[atQuery + i];
          const y = q[atQuery + half + i];
          score += (x * c - y * s) * k[atKey + i] + (y * c + x * s) * k[atKey + half + i];
        }
        score *= amplitude * amplitude;
        for (let j = rotarySize; j < headSize; j++) score += q[atQuery + j] * k[atKey + j];
        scores[n] = (score * scale(m)) / Math.sqrt(headSize);
      }
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - largest));
      const sum = weights.reduce((a, b) => a + b);
      for (let n = 0; n < T; n++) {
        if (!seen[m * T + n]) continue;
        const atValue = (n * keyHeads + keyHead) * headSize;
        const weight = weights[n] / sum;
        for (let j = 0; j < headSize; j++) out[atQuery + j] += weight * v[atValue + j];
      }
    }
  }
  return out;
}

function rmsNorm(rows: Float64Array, weight: Float32Array, epsilon: number): Float64Array {
  const size = weight.length;
  const out = new Float64Array(rows.length);
  for (let at = 0; at < rows.length; at += size) {
    let squares = 0;
    for (let j = 0; j < size; j++) squares += rows[at + j] ** 2;
    const factor = 1 / Math.sqrt(squares / size + epsilon);
    for (let j = 0; j < size; j++) out[at + j] = rows[at + j] * factor * weight[j];
  }
  return out;
}

/** rows [T, inputs] times weight [outputs, inputs] transposed; four sums side by side take half the time. */
function product(rows: Float64Array, weight: Float32Array, inputs: number): Float64Array {
  const outputs = weight.length / inputs;
  const even = outputs - (outputs % 4);
  const out = new Float64Array((rows.length / inputs) * outputs);
  for (let row = 0, to = 0; row < rows.length; row += inputs, to += outputs) {
    for (let o = 0; o < even; o += 4) {
      let [a, b, c, d] = [0, 0, 0, 0];
      for (let j = 0, at = o * inputs; j < inputs; j++, at++) {
        const x = rows[row + j];
        a += x * weight[at];
        b += x * weight[at + inputs];
        c += x * weight[at + 2 * inputs];
        d += x * weight[at + 3 * inputs];
      }
      out[to + o] = a;
      out[to + o + 1] = b;
      out[to + o + 2] = c;
      out[to + o + 3] = d;
    }
    for (let o = even; o < outputs; o++)
      for (let j = 0; j < inputs; j++) out[to + o] += rows[row + j] * weight[o * inputs + j];
  }
  return out;
}

function add(rows: Float64Array, more: Float64Array): void {
  for (let j = 0; j < rows.length; j++) rows[j] += more[j];
}
