import {
  Weights,
  type Backend,
  type ChunkContext,
  type Composition,
  type LayerHooks,
  type ModelConfig,
  type WeightTensor,
} from "@longctx/core";
import { createReference } from "@longctx/core/reference";

/** A random decoder of two layers, the same at every call. */
export function tinyConfig(changes: Partial<ModelConfig> = {}): ModelConfig {
  const layerCount = changes.layerCount ?? 2;
  return {
    modelType: "llama",
    vocabSize: 32,
    hiddenSize: 24,
    layerCount,
    queryHeads: 4,
    keyHeads: 2,
    headSize: 6,
    feedForwardSize: 32,
    norm: { kind: "rms", epsilon: 1e-6 },
    feedForward: "gated",
    activation: "silu",
    position: "rope",
    rope: { type: "default", base: 100, rotarySize: 6 },
    bias: { query: false, key: false, value: false, output: false, feedForward: false },
    queryKeyNorm: false,
    tiedEmbedding: false,
    slidingWindows: Array.from({ length: layerCount }, () => null),
    maxPositions: 32,
    trainedWindow: 32,
    specialTokens: { bos: 1, eos: [2], pad: 0 },
    ...changes,
  };
}

export function tinyWeights(config: ModelConfig, seed = 1): Weights {
  const { hiddenSize: hidden, vocabSize, layerCount, experts } = config;
  const [queries, keys] = [config.queryHeads * config.headSize, config.keyHeads * config.headSize];
  const shapes: Record<string, number[]> = {
    embedding: [vocabSize, hidden],
    finalNorm: [hidden],
    head: [vocabSize, hidden],
  };
  for (let layer = 0; layer < layerCount; layer++) {
    const ofLayer = {
      attentionNorm: [hidden],
      query: [queries, hidden],
      key: [keys, hidden],
      value: [keys, hidden],
      output: [hidden, queries],
      feedForwardNorm: [hidden],
      ...(experts ? { router: [experts.count, hidden] } : {}),
      ...networksOf(config),
    };
    for (const [name, shape] of Object.entries(ofLayer)) shapes[`layers.${layer}.${name}`] = shape;
  }
  const random = randomNumbers(seed);
  const tensors = Object.entries(shapes).map(([name, shape]): [string, WeightTensor] => {
    const scale = shape.length === 1 ? 0.2 : 2.5 / Math.sqrt(shape[1]);
    const values = Float32Array.from(
      { length: shape.reduce((a, b) => a * b) },
      () => (random() - 0.5) * scale + (shape.length === 1 ? 1 : 0),
    );
    return [
      name,
      { name, type: "F32", shape, bytes: () => new Uint8Array(values.slice().buffer), toFloat32: () => values.slice() },
    ];
  });
  return new Weights(new Map(tensors));
}

/** The shapes of one feed-forward network, or of each expert's. */
function networksOf({ hiddenSize, feedForwardSize, experts }: ModelConfig): Record<string, number[]> {
  const network = (at: string, size: number) => ({
    [`${at}gate`]: [size, hiddenSize],
    [`${at}up`]: [size, hiddenSize],
    [`${at}down`]: [hiddenSize, size],
  });
  if (!experts) return network("", feedForwardSize);
  const all = Array.from({ length: experts.count }, (_, e) => network(`experts.${e}.`, experts.feedForwardSize));
  return Object.fromEntries(all.flatMap((one) => Object.entries(one)));
}

export function tinyBackend(changes?: Partial<ModelConfig>): Backend {
  const config = tinyConfig(changes);
  return createReference(config, tinyWeights(config));
}

export function tinyIds(count: number, seed = 5): number[] {
  const random = randomNumbers(seed);
  return Array.from({ length: count }, () => Math.floor(random() * 32));
}

export interface ReadOptions {
  readonly chunk?: number;
  readonly trainedWindow?: number;
  /** The prompt's length; the number of ids unless given. */
  readonly length?: number;
  readonly hooks?: (plan: (layer: number) => ReturnType<Composition["plan"]>) => LayerHooks;
}

/** All logits [T, V] of a text under a method, read in chunks into a cache of the method's own layout. */
export async function readText(
  backend: Backend,
  method: Composition,
  ids: readonly number[],
  options: ReadOptions = {},
): Promise<Float32Array> {
  const { config } = backend;
  const { chunk = ids.length, trainedWindow = config.trainedWindow, length = ids.length } = options;
  const context = { config, trainedWindow };
  const cache = backend.createState(
    method.layout({ ...context, chunk, layer: 0 }) ?? { capacity: ids.length, pinned: ids.length },
  );
  const logits: Float32Array[] = [];
  for (let first = 0; first < ids.length; first += chunk) {
    const part = ids.slice(first, first + chunk);
    const plan = (layer: number) =>
      method.plan({
        ...context,
        first,
        count: part.length,
        length,
        promptLength: length,
        layer,
      } satisfies ChunkContext);
    const rows = await backend.forward({
      state: cache,
      ids: part,
      plan,
      logitRows: part.length,
      hooks: options.hooks?.(plan),
    });
    logits.push(rows.slice()); // the backend's own, valid until the next call
  }
  return Float32Array.from(logits.flatMap((rows) => [...rows]));
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}

/** mulberry32: uniform in [0, 1). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
