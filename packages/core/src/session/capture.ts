import { attentionWeights } from "./attention-weights.ts";
import type { ModelConfig } from "../model/config.ts";
import { LongctxError } from "../common/errors.ts";
import type { LayerView } from "../method/method.ts";
import type { AttentionPlan } from "../method/plan.ts";

/**
 * Attention probabilities of one chunk of queries: `weights` is [H, T, n] over tokens [0, n) of the text; each row sums
 * to 1.
 */
export interface CapturedAttention {
  readonly first: number;
  readonly count: number;
  readonly tokens: number;
  readonly weights: Float32Array;
}

/**
 * Collects hidden states and attention probabilities of the layers named, while a session reads; pass it to `forward`
 * or `prefill`.
 */
export class Capture {
  readonly layers: ReadonlySet<number>;
  readonly wants: { readonly hidden: boolean; readonly attention: boolean };
  readonly #hidden = new Map<number, Float32Array[]>();
  readonly #attention = new Map<number, CapturedAttention[]>();

  constructor(wants: { readonly layers: Iterable<number>; readonly hidden?: boolean; readonly attention?: boolean }) {
    this.layers = new Set(wants.layers);
    this.wants = { hidden: wants.hidden ?? true, attention: wants.attention ?? false };
  }

  /** Returns the residual stream [T, hidden] that enters a layer, for all tokens read with this capture. */
  hidden(layer: number): Float32Array {
    const chunks = this.#need(this.#hidden, layer, "hidden states");
    const all = new Float32Array(chunks.reduce((size, chunk) => size + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }

  /** Returns the attention probabilities of a layer, one entry for each chunk read with this capture. */
  attention(layer: number): readonly CapturedAttention[] {
    return this.#need(this.#attention, layer, "attention weights");
  }

  addHidden(layer: number, hidden: Float32Array): void {
    if (this.wants.hidden && this.layers.has(layer)) push(this.#hidden, layer, hidden.slice());
  }

  addAttention(config: ModelConfig, plan: AttentionPlan, view: LayerView): void {
    if (!this.wants.attention || !this.layers.has(view.layer)) return;
    const tokens = view.first + view.count;
    push(this.#attention, view.layer, {
      first: view.first,
      count: view.count,
      tokens,
      weights: attentionWeights(plan, view, config),
    });
  }

  #need<Value>(kept: ReadonlyMap<number, Value[]>, layer: number, what: string): Value[] {
    const values = kept.get(layer);
    if (!values)
      throw new LongctxError(
        "argument",
        `No ${what} of layer ${layer} were captured; ask for them when the Capture is made.`,
      );
    return values;
  }
}

function push<Value>(kept: Map<number, Value[]>, layer: number, value: Value): void {
  const values = kept.get(layer);
  if (values) values.push(value);
  else kept.set(layer, [value]);
}
