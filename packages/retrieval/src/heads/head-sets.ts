import { byQuality, findingOf, type Finding } from "./findings.ts";
import type { ProbeScores } from "./probe-scores.ts";

/** Heads (each layer · H + head) whose scores are summed, and what they find. */
export interface HeadSet {
  readonly heads: readonly number[];
  readonly finding: Finding;
}

/** Single heads of which sets are made: the best of all prompts, and the best of each kind. */
const CANDIDATES = { overall: 32, ofKind: 8 };

/** The largest set. */
const MOST = 4;

/** How many times the worst margin of a smaller set a larger one has to reach where both find as many needles. */
const WORTH = 1.5;

/**
 * Returns the best sets of heads on some prompts: the best `count` pairs of all pairs of candidates, and from the best
 * pair on sets of three and four, each with the head that helps most. Candidates are the best single heads.
 */
export function bestSets(probes: readonly ProbeScores[], headCount: number, count: number): HeadSet[] {
  const candidates = candidatesOf(probes, headCount);
  const setOf = (heads: readonly number[]): HeadSet => ({ heads, finding: findingOf(probes, heads) });
  const sorted = (sets: HeadSet[]) => sets.sort((a, b) => byQuality(a.finding, b.finding));
  const pairs = sorted(
    candidates.flatMap((one, i) => candidates.slice(i + 1).map((other) => setOf([one, other]))),
  ).slice(0, count);
  const grown: HeadSet[] = [];
  for (let last = pairs.at(0); last && last.heads.length < MOST; last = grown.at(-1)) {
    const { heads } = last;
    const more = candidates.filter((head) => !heads.includes(head)).map((head) => setOf([...heads, head]));
    if (more.length === 0) break;
    grown.push(sorted(more)[0]);
  }
  return [...pairs, ...grown];
}

function candidatesOf(probes: readonly ProbeScores[], headCount: number): number[] {
  const best = (of: readonly ProbeScores[], count: number): number[] =>
    Array.from({ length: headCount }, (_, head) => ({ head, finding: findingOf(of, [head]) }))
      .sort((a, b) => byQuality(a.finding, b.finding) || a.head - b.head)
      .slice(0, count)
      .map(({ head }) => head);
  const kinds = [...new Set(probes.map(({ kind }) => kind))];
  const ofKinds = kinds.flatMap((kind) => best(probes.filter((probe) => probe.kind === kind), CANDIDATES.ofKind)); // prettier-ignore
  return [...new Set([...best(probes, CANDIDATES.overall), ...ofKinds])];
}

/**
 * Returns the set to use: of sets in order of their size, a larger one replaces a smaller one only where it finds more
 * needles, or as many with a worst margin that is 1.5 times as large, because each head costs computing.
 */
export function worthiest(sets: readonly HeadSet[]): HeadSet {
  return sets.reduce((best, set) => {
    const more = set.finding.first - best.finding.first;
    return more > 0 || (more === 0 && set.finding.worst >= WORTH * best.finding.worst) ? set : best;
  });
}
