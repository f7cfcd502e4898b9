import { attentionRows } from "./attention-rows.ts";
import type { ModelConfig } from "../model/config.ts";
import { LongctxError } from "../common/errors.ts";
import type { LayerView } from "../method/method.ts";
import { intersect, type AttentionPlan, type Interval } from "../method/plan.ts";

/** What a `Capture` collects. */
export interface CaptureWants {
  /** The layers of which something is captured; the layers of `heads` unless given. */
  readonly layers?: Iterable<number>;
  /** Whether hidden states are captured: true unless given or `heads` are given. */
  readonly hidden?: boolean;
  /** Whether attention probabilities are captured: false unless given or `heads` are given. */
  readonly attention?: boolean;
  /** The query heads whose attention is captured, as pairs of layer and head from 0; all heads of `layers` unless given. */
  readonly heads?: Iterable<readonly [layer: number, head: number]>;
  /** The text indices of the queries whose attention is captured; all queries unless given. */
  readonly rows?: Interval;
}

/**
 * Attention probabilities of the captured queries of one chunk: `weights` is [heads, rows, n] over tokens [0, n) of the
 * text; each row sums to 1.
 */
export interface CapturedAttention {
  /** The text index of the first query; queries [first, first + count) were captured. */
  readonly first: number;
  readonly count: number;
  /** The number of tokens n, which is the text index of the chunk's end. */
  readonly tokens: number;
  /** The query heads in `weights`, ascending. */
  readonly heads: readonly number[];
  readonly weights: Float32Array;
}

/** A chunk of queries [first, first + count). */
interface Chunk {
  readonly first: number;
  readonly count: number;
}

/**
 * Collects hidden states and attention probabilities of the layers named, while a session reads; pass it to `forward`
 * or `prefill`. A device is waited for only at these layers, and for attention only in chunks that hold captured queries.
 */
export class Capture {
  readonly layers: ReadonlySet<number>;
  readonly wants: { readonly hidden: boolean; readonly attention: boolean };
  /** The text indices of the queries whose attention is captured. */
  readonly rows: Interval;
  /** The captured query heads by layer, ascending; null where all heads of `layers` are captured. */
  readonly #heads: ReadonlyMap<number, readonly number[]> | null;
  readonly #hidden = new Map<number, Float32Array[]>();
  readonly #attention = new Map<number, CapturedAttention[]>();

  constructor({ layers, hidden, attention, heads, rows = { from: 0, to: Infinity } }: CaptureWants) {
    this.#heads = heads ? byLayer(heads) : null;
    this.layers = new Set(layers ?? this.#heads?.keys());
    this.wants = { hidden: hidden ?? !heads, attention: attention ?? heads !== undefined };
    this.rows = rows;
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

  /** Returns the attention probabilities of a layer, one entry for each chunk with captured queries. */
  attention(layer: number): readonly CapturedAttention[] {
    return this.#need(this.#attention, layer, "attention weights");
  }

  /** Checks the layers and heads. @throws LongctxError "argument" where the model does not have one of them */
  check({ layerCount, queryHeads }: Pick<ModelConfig, "layerCount" | "queryHeads">): void {
    const layers = [...this.layers, ...(this.#heads?.keys() ?? [])];
    const layer = layers.find((one) => !isIndex(one, layerCount));
    if (layer !== undefined)
      throw new LongctxError(
        "argument",
        `Layer ${layer} was to be captured, but the model's layers go from 0 to ${layerCount - 1}.`,
      );
    for (const [of, heads] of this.#heads ?? []) {
      const head = heads.find((one) => !isIndex(one, queryHeads));
      if (head !== undefined)
        throw new LongctxError(
          "argument",
          `Head ${head} of layer ${of} was to be captured, but the model's query heads go from 0 to ${queryHeads - 1}.`,
        );
    }
  }

  /** Returns whether hidden states or attention of a layer are captured while the chunk is read. */
  watches(layer: number, chunk: Chunk): boolean {
    return (this.wants.hidden && this.layers.has(layer)) || this.#headsAt(layer, chunk) !== null;
  }

  /** Returns whether attention of some layer is captured while the chunk is read. */
  watchesAttention(chunk: Chunk): boolean {
    return [...(this.#heads?.keys() ?? this.layers)].some((layer) => this.#headsAt(layer, chunk) !== null);
  }

  /** Returns the captured heads of a layer, "all" of them, or null where the chunk has no captured attention. */
  #headsAt(layer: number, chunk: Chunk): readonly number[] | "all" | null {
    const { from, to } = this.#rowsOf(chunk);
    if (!this.wants.attention || from >= to) return null;
    return this.#heads ? (this.#heads.get(layer) ?? null) : this.layers.has(layer) ? "all" : null;
  }

  #rowsOf({ first, count }: Chunk): Interval {
    return intersect(this.rows, { from: first, to: first + count });
  }

  addHidden(layer: number, hidden: Float32Array): void {
    if (this.wants.hidden && this.layers.has(layer)) push(this.#hidden, layer, hidden.slice());
  }

  addAttention(config: ModelConfig, plan: AttentionPlan, view: LayerView): void {
    const wanted = this.#headsAt(view.layer, view);
    if (wanted === null) return;
    const heads = wanted === "all" ? Array.from({ length: config.queryHeads }, (_, head) => head) : wanted;
    const rows = this.#rowsOf(view);
    push(this.#attention, view.layer, {
      first: rows.from,
      count: rows.to - rows.from,
      tokens: view.first + view.count,
      heads,
      weights: attentionRows(plan, view, config, { rows, heads }),
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

function byLayer(pairs: Iterable<readonly [layer: number, head: number]>): ReadonlyMap<number, readonly number[]> {
  const heads = new Map<number, Set<number>>();
  for (const [layer, head] of pairs) heads.set(layer, (heads.get(layer) ?? new Set()).add(head));
  return new Map([...heads].map(([layer, ofLayer]) => [layer, [...ofLayer].sort((a, b) => a - b)] as const));
}

function isIndex(value: number, count: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < count;
}

function push<Value>(kept: Map<number, Value[]>, layer: number, value: Value): void {
  const values = kept.get(layer);
  if (values) values.push(value);
  else kept.set(layer, [value]);
}
