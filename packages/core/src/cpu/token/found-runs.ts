import type { TokenSlots } from "../../state/slots.ts";
import { KnownRuns } from "../choice/list-runs.ts";
import type { HeadLists } from "./token-lists.ts";
import type { TokenList } from "./token-plan.ts";

/** Lists whose runs are shorter are read slot by slot. */
const SHORTEST_RUN = 16;

/** Consecutive slots that some query heads of a key head have found. */
export interface FoundRun {
  readonly list: TokenList;
  /** The first of the heads, counted in the key head, and how many there are. */
  readonly firstHead: number;
  readonly heads: number;
  readonly from: number;
  readonly count: number;
}

/** What heads have found: runs of slots by key head, and lists whose tokens are scattered. */
export interface FoundParts {
  readonly runs: readonly (readonly FoundRun[])[];
  readonly lists: HeadLists | null;
}

/** Divides what the heads of a token have found; runs have at most `longest` slots. */
export function foundParts(
  { segments, lists }: HeadLists,
  slots: TokenSlots,
  { queryHeads, keyHeads }: { readonly queryHeads: number; readonly keyHeads: number },
  longest: number,
): FoundParts {
  const group = queryHeads / keyHeads;
  const known = new KnownRuns();
  const of = (head: number, s: number) => lists[head * segments.length + s];
  const runs: FoundRun[][] = Array.from({ length: keyHeads }, () => []);
  const scattered: number[] = [];
  for (const [s, list] of segments.entries()) {
    const all = Array.from({ length: queryHeads }, (_, head) => of(head, s));
    const entries = all.reduce((sum, one) => sum + one.length, 0);
    const count = all.reduce((sum, one) => sum + known.of(one).length / 2, 0);
    if (entries < SHORTEST_RUN * count) {
      scattered.push(s);
      continue;
    }
    for (let head = 0; head < queryHeads;) {
      const keyHead = Math.floor(head / group);
      let next = head + 1;
      while (next < (keyHead + 1) * group && of(next, s) === of(head, s)) next++;
      const tokens = known.of(of(head, s));
      for (let i = 0; i < tokens.length; i += 2)
        for (const { from, to } of slots.runs(tokens[i], tokens[i] + tokens[i + 1]))
          for (let at = from; at < to; at += longest)
            runs[keyHead].push({ list, firstHead: head % group, heads: next - head, from: at, count: Math.min(longest, to - at) }); // prettier-ignore
      head = next;
    }
  }
  if (scattered.length === 0) return { runs, lists: null };
  const rest = Array.from({ length: queryHeads }, (_, head) => scattered.map((s) => of(head, s)));
  return {
    runs,
    lists: {
      segments: scattered.map((s) => segments[s]),
      lists: rest.flat(),
      longest: Math.max(...rest.map((ofHead) => ofHead.reduce((sum, one) => sum + one.length, 0))),
    },
  };
}
