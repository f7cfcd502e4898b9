import {
  ChosenRows,
  EVERYTHING,
  sees,
  stateless,
  type AttentionPlan,
  type Interval,
  type Method,
  type Segment,
} from "@longctx/core";

/** The tokens that one query of one layer sees because they were fetched: chosen by its keys, or listed by a control. */
export interface FetchedRow {
  readonly layer: number;
  /** The text index of the query. */
  readonly query: number;
  /** Ascending text indices: one list for all query heads, one for each key head [K], or one for each query head [H]. */
  readonly lists: readonly Int32Array[];
  /** The plan of the layer, in which tokens stand in place of choices. */
  readonly plan: AttentionPlan;
}

/**
 * Returns the tokens that a query sees through lists of a plan, its gated branch included: what a choice took, or what a
 * control lists, but not what ranges of tokens show (sinks, the local band). One ascending list for all heads, or one for
 * each key head or query head where heads choose apart; none where the query fetches nothing. The plan is one that a hook
 * sees, in which tokens stand in place of choices.
 */
export function chosenTokens(plan: AttentionPlan, query: number): Int32Array[] {
  const segments = [...plan.segments, ...(plan.gated?.segments ?? [])].filter(
    ({ queries }) => !queries || (query >= queries.from && query < queries.to),
  );
  const heads = Math.max(1, ...segments.map(({ tokens }) => (tokens instanceof ChosenRows ? tokens.heads : 1)));
  const lists = Array.from({ length: heads }, (_, head) =>
    Int32Array.from(segments.flatMap((segment) => [...listed(segment, query, head, heads)])).sort(),
  );
  return lists.some((list) => list.length > 0) ? lists : [];
}

function listed({ tokens, band }: Segment, query: number, head: number, heads: number): Int32Array {
  const list =
    tokens instanceof Int32Array
      ? tokens
      : tokens instanceof ChosenRows
        ? tokens.tokensOf(query, head, heads)
        : NO_TOKENS;
  return list.filter((token) => query - token >= band.from && query - token < band.to);
}

const NO_TOKENS = new Int32Array(0);

/** For which queries and layers a trace is taken, and who is told. */
export interface RetrievalTraceOptions {
  /** The text indices of the queries; all of them unless given. */
  readonly queries?: Interval;
  /** Whether a layer is traced; every layer unless given. */
  layers?(layer: number): boolean;
  /** Called for each query that fetches something, in each layer. */
  onRow(row: FetchedRow): void;
}

/**
 * Makes a method that changes nothing and tells what each query fetches. It is composed with the method that retrieves; a
 * GPU is waited for at each traced layer, so a long text is read without it, and the session forked with it where the
 * traced queries begin (`session.fork({ method })`).
 */
export function retrievalTrace({ queries = EVERYTHING, layers = () => true, onRow }: RetrievalTraceOptions): Method {
  return {
    spec: "retrieval-trace",
    axes: [],
    hook: {
      layers,
      create: () =>
        stateless({
          plan: (plan, { layer, first, count }) => {
            const end = Math.min(first + count, queries.to);
            for (let query = Math.max(first, queries.from); query < end; query++) {
              const lists = chosenTokens(plan, query);
              if (lists.length > 0) onRow({ layer, query, lists, plan });
            }
            return plan;
          },
        }),
    },
  };
}

/** What one layer has fetched, summed over the queries that fetched something. */
export interface LayerFetches {
  readonly layer: number;
  /** The number of lists that were counted: queries times the lists of each. */
  readonly lists: number;
  /** Pairs of a bin of the text and how many of its tokens the lists have together; bins without any are left out. */
  readonly counts: readonly (readonly [bin: number, tokens: number])[];
  /** For each list of a query (one, [K] or [H]) the mean share of the marked tokens that it has, 0 to 1. */
  readonly marked: readonly number[];
  /** The mean share of the marked tokens that the queries see without fetching them (sinks, last tokens), 0 to 1. */
  readonly shown: number;
}

interface Counted {
  lists: number;
  shown: number;
  readonly counts: Map<number, number>;
  readonly marked: number[];
  queries: number;
}

/** Counts by layer which part of the text was fetched, in bins of some tokens, and how much of a marked place was. */
export class FetchCounts {
  readonly #bin: number;
  readonly #mark: Interval;
  readonly #layers = new Map<number, Counted>();

  /** `bin` is the number of tokens in a bin; `mark` are the tokens of the marked place, such as a needle. */
  constructor({ bin, mark }: { readonly bin: number; readonly mark: Interval }) {
    this.#bin = bin;
    this.#mark = mark;
  }

  add({ layer, query, lists, plan }: FetchedRow): void {
    const counted: Counted = this.#layers.get(layer) ?? {
      lists: 0,
      shown: 0,
      counts: new Map(),
      marked: [],
      queries: 0,
    };
    this.#layers.set(layer, counted);
    counted.lists += lists.length;
    counted.queries++;
    const { from, to } = this.#mark;
    const ranges = plan.segments.filter(({ tokens }) => "from" in tokens);
    for (let token = from; token < to; token++)
      if (ranges.some((segment) => sees(segment, query, token))) counted.shown += 1 / (to - from);
    for (const [number, list] of lists.entries()) {
      let marked = 0;
      for (const token of list) {
        const bin = Math.floor(token / this.#bin);
        counted.counts.set(bin, (counted.counts.get(bin) ?? 0) + 1);
        if (token >= from && token < to) marked++;
      }
      counted.marked[number] = (counted.marked[number] ?? 0) + marked / Math.max(1, to - from);
    }
  }

  /** Returns what was counted, for each layer that fetched something, in order. */
  layers(): LayerFetches[] {
    return [...this.#layers]
      .sort(([a], [b]) => a - b)
      .map(([layer, { lists, counts, marked, shown, queries }]) => ({
        layer,
        lists,
        counts: [...counts].sort(([a], [b]) => a - b),
        marked: marked.map((sum) => sum / queries),
        shown: shown / queries,
      }));
  }
}
