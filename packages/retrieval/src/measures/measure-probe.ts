import {
  compose,
  eventLoopTurn,
  LongctxError,
  stateless,
  type AttentionPlan,
  type ChunkContext,
  type Composition,
  type LayerView,
  type Method,
  type Session,
} from "@longctx/core";
import { ExactAttention, KeyAngleCache, softmax, type Meeting } from "./exact-attention.ts";
import { bestFar, meetingsOf } from "./far-tokens.ts";
import {
  MeasureSums,
  type HeadMeasure,
  type HeadRow,
  type LayerMeasure,
  type MeasurePositions,
} from "./retrieval-measures.ts";
import { FETCHED, HIDDEN, seenTokens, SHOWN } from "./seen-tokens.ts";

interface ProbeOptions {
  readonly layers: ReadonlySet<number>;
  readonly top: number;
  readonly positions: MeasurePositions;
  readonly signal: AbortSignal | undefined;
}

/** The exact answers for a layer's rows, from when its queries are known until its output is. */
interface Pending {
  readonly row: number;
  readonly head: number;
  readonly full: Float64Array;
  readonly measures: Omit<HeadRow, "error" | "norm">;
}

/** A method that changes nothing and measures some rows of the chunks that pass. */
export class Probe {
  /** The queries of the chunk to be read. */
  rows: readonly number[] = [];
  /** The length of the whole text. */
  length = 0;
  /** Told the share of the chunk's layers that are done. */
  onLayer: (share: number) => void = () => undefined;
  readonly method: Method;
  readonly #session: Session;
  readonly #options: ProbeOptions;
  /** The session's methods without those that change visibility, distance or memory. */
  readonly #plain: Composition;
  readonly #angles = new KeyAngleCache();
  readonly #ofHead = new Map<string, MeasureSums>();
  readonly #ofLayer = new Map<number, MeasureSums>();
  #pending: Pending[] = [];

  constructor(session: Session, options: ProbeOptions) {
    this.#session = session;
    this.#options = options;
    const hides = ({ axes }: Method) =>
      axes.some((axis) => axis === "visibility" || axis === "distance" || axis === "memory");
    this.#plain = compose(...session.method.parts.filter((part) => !hides(part)));
    this.method = {
      spec: "retrieval-measure",
      axes: [],
      hook: {
        layers: (layer) => this.rows.length > 0 && options.layers.has(layer),
        create: () =>
          stateless({
            plan: async (plan, view) => {
              await this.#answer(plan, view);
              return plan;
            },
            attended: (view, attended) => {
              this.#compare(view, attended);
              return attended;
            },
          }),
      },
    };
  }

  measures(): { readonly heads: HeadMeasure[]; readonly layers: LayerMeasure[] } {
    return {
      heads: [...this.#ofHead]
        .map(([name, sums]) => {
          const [layer, head] = name.split(" ").map(Number);
          return { layer, head, ...sums.measure() };
        })
        .sort((a, b) => a.layer - b.layer || a.head - b.head),
      layers: [...this.#ofLayer]
        .map(([layer, sums]) => ({ layer, ...sums.measure() }))
        .sort((a, b) => a.layer - b.layer),
    };
  }

  async #answer(plan: AttentionPlan, view: LayerView): Promise<void> {
    const { config, context } = this.#session.model;
    const { first, count, layer } = view;
    const chunk: ChunkContext = { ...context, first, count, layer, length: this.length, promptLength: this.length };
    const plain = this.#plain.plan(chunk);
    const last = this.rows[this.rows.length - 1];
    const exact = new ExactAttention(config, view, last + 1, this.#angles);
    const buffers = buffersOf(last + 1);
    this.#pending = [];
    for (const row of this.rows) {
      for (let head = 0; head < config.queryHeads; head++)
        this.#pending.push({ row, head, ...this.#exactRow(exact, { plan, plain, row, head, layer }, buffers) });
      await eventLoopTurn(); // a row may take a while, and signals want to be heard
      if (this.#options.signal?.aborted) throw new LongctxError("aborted", "Stopped while measuring, as asked.");
    }
    this.onLayer((layer + 1) / config.layerCount);
  }

  #exactRow(
    exact: ExactAttention,
    { plan, plain, row, head, layer }: { readonly plan: AttentionPlan; readonly plain: AttentionPlan; readonly row: number; readonly head: number; readonly layer: number }, // prettier-ignore
    { kinds, through, scores }: Buffers,
  ): Pick<Pending, "full" | "measures"> {
    const { queryHeads, slidingWindows } = this.#session.model.config;
    // A layer with a window of its own pays no attention beyond it, whatever the method.
    const from = Math.max(0, row + 1 - (slidingWindows[layer] ?? Infinity));
    seenTokens(plan, row, { head, queryHeads }, kinds, through);
    const score = (meeting: Meeting, tokens: Parameters<ExactAttention["score"]>[4], by: AttentionPlan) =>
      exact.score(row, head, meeting, by.temperature?.at(row) ?? 1, tokens, scores);
    if (this.#options.positions === "text") score(plain.segments[0], { from, to: row + 1 }, plain);
    else
      for (const [meeting, tokens] of meetingsOf(plan, kinds, through, from, row, layer)) score(meeting, tokens, plan);
    const best = bestFar(scores, kinds, from, row, this.#options.top);
    softmax(scores, from, row + 1);
    const masses = [0, 0, 0]; // by kind
    for (let token = from; token <= row; token++) masses[kinds[token]] += scores[token];
    const recall = best.length > 0 ? best.filter((token) => kinds[token] === FETCHED).length / best.length : null;
    return {
      full: exact.mix(head, scores, from, row + 1),
      measures: {
        recall,
        kept: masses[SHOWN] + masses[FETCHED],
        far: masses[HIDDEN] + masses[FETCHED],
        fetched: masses[FETCHED],
      },
    };
  }

  /** Compares the layer's output [T, H, D] with the exact answers. */
  #compare({ layer, first }: LayerView, attended: Float32Array): void {
    const { queryHeads, headSize } = this.#session.model.config;
    for (const { row, head, full, measures } of this.#pending) {
      const at = ((row - first) * queryHeads + head) * headSize;
      let [error, norm] = [0, 0];
      full.forEach((value, i) => {
        error += (attended[at + i] - value) ** 2;
        norm += value ** 2;
      });
      for (const sums of [sumsOf(this.#ofHead, `${layer} ${head}`), sumsOf(this.#ofLayer, layer)])
        sums.add({ ...measures, error, norm });
    }
    this.#pending = [];
  }
}

function sumsOf<Key>(known: Map<Key, MeasureSums>, key: Key): MeasureSums {
  const sums = known.get(key) ?? new MeasureSums();
  known.set(key, sums);
  return sums;
}

/** Arrays [n] that are used again for every row and head. */
interface Buffers {
  readonly kinds: Uint8Array;
  readonly through: Int16Array;
  readonly scores: Float64Array;
}

function buffersOf(count: number): Buffers {
  return { kinds: new Uint8Array(count), through: new Int16Array(count), scores: new Float64Array(count) };
}
