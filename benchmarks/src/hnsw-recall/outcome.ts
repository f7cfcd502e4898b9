import type { Positions } from "./asked.ts";
import type { Build } from "./measure.ts";

/** One graph at one ef, the means over layers and key heads. */
export interface Point extends Build {
  readonly positions: Positions;
  readonly keyCount: number;
  /** The key heads of all layers that this is the mean of. */
  readonly heads: number;
  readonly ef: number;
  readonly insertsPerSecond: number;
  readonly bytesPerKey: number;
  readonly recall8: number;
  readonly recall32: number;
  readonly recall128: number;
  /** Of the key head that is found worst. */
  readonly worstRecall32: number;
  readonly mass32: number;
  readonly microseconds: number;
}

/** Microseconds a query of each exact search. */
export interface ExactTimes {
  readonly keyCount: number;
  readonly microseconds: Readonly<Record<string, number>>;
}

/** Recalls that a method may want. */
const WANTED = [0.95, 0.99] as const;

/** Points of positions=constant with examples of queries, as a method has them; its defaults come from here. */
function candidates(points: readonly Point[]): Point[] {
  return points.filter(({ keys, positions }) => keys === "sphere, examples" && positions === "constant");
}

/**
 * The knee of the curve at the most keys: where recall@32 is highest above the straight line from the quickest search
 * to the slowest, over the logarithm of the time (Satopää et al. 2011, "Finding a kneedle in a haystack").
 */
export function knee(points: readonly Point[]): Point {
  const all = candidates(points);
  const most = Math.max(...all.map(({ keyCount }) => keyCount));
  const curve = all.filter(({ keyCount, ef }) => keyCount === most && ef < most);
  const times = curve.map(({ microseconds }) => Math.log(microseconds));
  const recalls = curve.map(({ recall32 }) => recall32);
  const share = (value: number, of: readonly number[]) =>
    (value - Math.min(...of)) / (Math.max(...of) - Math.min(...of) || 1);
  const heights = curve.map((_, i) => share(recalls[i], recalls) - share(times[i], times));
  return curve[heights.indexOf(Math.max(...heights))];
}

/** How the quickest search of a wanted recall compares with the quickest exact one, at each number of keys. */
export interface Crossing {
  readonly recall: number;
  readonly at: readonly { readonly keyCount: number; readonly hnsw: number | null; readonly exact: number }[];
  /** The number of keys from which on hnsw is faster, between two that were measured; null where it never is. */
  readonly keys: number | null;
}

export function crossing(points: readonly Point[], exact: readonly ExactTimes[]): Crossing[] {
  return WANTED.map((recall) => {
    const at = exact.map(({ keyCount, microseconds }) => {
      const enough = candidates(points).filter((point) => point.keyCount === keyCount && point.recall32 >= recall);
      return {
        keyCount,
        hnsw: enough.length > 0 ? Math.min(...enough.map((point) => point.microseconds)) : null,
        exact: Math.min(...Object.values(microseconds)),
      };
    });
    const faster = at.findIndex(({ hnsw, exact: other }) => hnsw !== null && hnsw < other);
    if (faster <= 0) return { recall, at, keys: faster === 0 ? at[0].keyCount : null };
    const [before, after] = [at[faster - 1], at[faster]];
    const advantage = (one: (typeof at)[number]) => Math.log(one.exact / (one.hnsw ?? 10 * one.exact));
    const share = -advantage(before) / (advantage(after) - advantage(before));
    const log = Math.log(before.keyCount) + share * Math.log(after.keyCount / before.keyCount);
    return { recall, at, keys: Math.round(Math.exp(log)) };
  });
}
