import {
  LongctxError,
  stateless,
  type AttentionPlan,
  type LayerView,
  type Method,
  type MethodState,
  type ModelConfig,
} from "@longctx/core";

/**
 * Retrieval at its smallest: each chunk keeps the `count` tokens whose un-rotated keys fit its queries best, and itself.
 * `choices` by the chunk's first token are kept and used again: two devices may break a tie each in its own way.
 */
export function bestTokens(
  count: number,
  config: ModelConfig,
  choices: Map<number, readonly number[]> = new Map(),
): Method {
  return {
    spec: `best-tokens:count=${count}`,
    axes: ["visibility"],
    hook: {
      layers: (layer) => layer === 0,
      create: () =>
        stateless({
          plan: async (plan, view) => {
            const own = plan.segments.map((segment) => ({ ...segment, tokens: { from: view.first, to: Infinity } }));
            const known = choices.get(view.first) ?? best(view, count, config);
            choices.set(view.first, known);
            const chosen = Int32Array.from(known);
            return {
              segments: [...own, ...plan.segments.map((segment) => ({ ...segment, tokens: chosen }))],
            } satisfies AttentionPlan;
          },
        }),
    },
  };
}

/** The earlier tokens with the largest Σ q·k over the queries and heads of the chunk, ascending. */
export function best(view: LayerView, count: number, config: ModelConfig): number[] {
  const { queryHeads: H, keyHeads: K, headSize: D } = config;
  const [queries, keys] = [view.queries(), view.keys({ from: 0, to: view.first })];
  const score = (n: number) => {
    let sum = 0;
    for (let t = 0; t < view.count; t++) {
      for (let h = 0; h < H; h++)
        for (let i = 0; i < D; i++)
          sum += queries[(t * H + h) * D + i] * keys[(n * K + Math.floor((h * K) / H)) * D + i];
    }
    return sum;
  };
  const scores = Array.from({ length: view.first }, (_, n) => ({ n, score: score(n) }));
  return scores.sort((a, b) => b.score - a.score).slice(0, count).map(({ n }) => n).sort((a, b) => a - b); // prettier-ignore
}

/** Memory at its smallest: half of layer 1's output is the mean value of all tokens of earlier chunks. */
class MeanMemory implements MethodState {
  readonly config: ModelConfig;
  sum: Float32Array;
  count = 0;

  constructor(config: ModelConfig) {
    this.config = config;
    this.sum = new Float32Array(config.keyHeads * config.headSize);
  }

  attended(view: LayerView, attended: Float32Array): Float32Array {
    const values = view.values({ from: view.first, to: view.first + view.count });
    const merged =
      this.count === 0
        ? attended
        : attended.map((value, i) => (value + this.sum[memoryIndex(i, this.config)] / this.count) / 2);
    values.forEach((value, i) => (this.sum[i % this.sum.length] += value));
    this.count += view.count;
    return merged;
  }

  fork(): MeanMemory {
    const copy = new MeanMemory(this.config);
    copy.sum = this.sum.slice();
    copy.count = this.count;
    return copy;
  }

  save(): Uint8Array {
    return new Uint8Array(Float32Array.of(this.count, ...this.sum).buffer);
  }

  restore(bytes: Uint8Array): void {
    const [count, ...sum] = new Float32Array(bytes.slice().buffer);
    this.count = count;
    this.sum = Float32Array.from(sum);
  }

  truncate(length: number): void {
    if (length < this.count)
      throw new LongctxError(
        "argument",
        `The memory cannot forget the tokens after ${length}; fork the session before them.`,
      );
  }
}

/** Where channel i of [T, H, D] is in [K, D]. */
export function memoryIndex(i: number, config: ModelConfig): number {
  const { queryHeads: H, keyHeads: K, headSize: D } = config;
  return Math.floor((Math.floor((i % (H * D)) / D) * K) / H) * D + (i % D);
}

export const meanMemory: Method = {
  spec: "mean-memory",
  axes: ["memory"],
  hook: { layers: (layer) => layer === 1, create: ({ config }) => new MeanMemory(config) },
};
