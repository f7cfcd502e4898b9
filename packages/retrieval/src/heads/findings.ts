import type { ProbeScores } from "./probe-scores.ts";

/** How heads found the needles of several prompts. */
export interface Finding {
  readonly prompts: number;
  /** The share of prompts in which the needle has rank 1, 0 to 1. */
  readonly first: number;
  /** The median and the least margin: the needle's score over the best other sentence's. */
  readonly median: number;
  readonly worst: number;
}

/** How one head or several together find needles: in the half they are chosen by, in the half held out, and there by kind. */
export interface HalvesFinding {
  readonly chosen: Finding;
  readonly heldOut: Finding;
  readonly kinds: Readonly<Record<string, Finding>>;
}

/** Returns how heads (each layer · H + head) find the needles of prompts. */
export function findingOf(probes: readonly ProbeScores[], heads: readonly number[]): Finding {
  const found = probes.map((probe) => probe.found(heads));
  const margins = found.map(({ margin }) => margin).sort((a, b) => a - b);
  const middle = margins.length >> 1;
  return {
    prompts: probes.length,
    first: found.filter(({ rank }) => rank === 1).length / probes.length,
    median: margins.length % 2 === 1 ? margins[middle] : (margins[middle - 1] + margins[middle]) / 2,
    worst: margins[0],
  };
}

/** The prompts of both halves; each half has one at least. */
export interface Halves {
  readonly chosen: readonly ProbeScores[];
  readonly heldOut: readonly ProbeScores[];
}

export function halvesFinding({ chosen, heldOut }: Halves, heads: readonly number[]): HalvesFinding {
  const kinds = [...new Set(heldOut.map(({ kind }) => kind))];
  return {
    chosen: findingOf(chosen, heads),
    heldOut: findingOf(heldOut, heads),
    kinds: Object.fromEntries(
      kinds.map((kind) => [
        kind,
        findingOf(
          heldOut.filter((probe) => probe.kind === kind),
          heads,
        ),
      ]),
    ),
  };
}

/** Orders findings, the better first: more needles first; of equal shares the larger worst, then the larger median margin. */
export function byQuality(a: Finding, b: Finding): number {
  return b.first - a.first || b.worst - a.worst || b.median - a.median;
}
