import { FetchCounts, retrievalTrace, type LayerFetches, type Method } from "longctx";
import type { Cell, Prompt, SampleRecord } from "@longctx/tasks";

/** Bins of a text in a trace, at most. */
const BINS = 128;

/** Notes what is fetched for the question of a prompt and for the tokens of the answer. */
export interface PromptTrace {
  /** Composed with what reads the question. */
  readonly method: Method;
  /** What was noted, for the sample's record. */
  record(): NonNullable<SampleRecord["retrieved"]>;
}

/** A trace of one prompt, whose asked needle is marked; prompts of a length have bins of a size. */
export function promptTrace({ length }: Cell, { ids, questionStart, needles: [needle] }: Prompt): PromptTrace {
  const bin = Math.ceil(length / BINS);
  const counts = () => new FetchCounts({ bin, mark: { from: needle.start, to: needle.end } });
  const [question, answer] = [counts(), counts()];
  return {
    method: retrievalTrace({
      queries: { from: questionStart, to: Infinity },
      onRow: (row) => (row.query < ids.length ? question : answer).add(row),
    }),
    record: () => ({ bin, question: question.layers().map(written), answer: answer.layers().map(written) }),
  };
}

type Written = NonNullable<SampleRecord["retrieved"]>["question"][number];

/** Sums of shares may be above 1 by their rounding, which this takes away. */
function decimals(share: number): number {
  return Number(share.toFixed(3));
}

function written({ layer, lists, counts, marked, shown }: LayerFetches): Written {
  return {
    layer,
    lists,
    counts: counts.map(([bin, tokens]) => [bin, tokens]),
    needle: marked.map(decimals),
    shown: decimals(shown),
  };
}
