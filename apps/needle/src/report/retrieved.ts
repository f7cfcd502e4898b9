import type { SampleRecord } from "@longctx/tasks";
import type { RunIdentity } from "../files/manifest.ts";
import { lengthName, taskName } from "./names.ts";

type Retrieved = NonNullable<SampleRecord["retrieved"]>;
type Fetches = Retrieved["question"][number];

/** The two kinds of queries of a trace. */
export const ASKING = ["question", "answer"] as const;

/**
 * Which share of the needle's tokens a layer fetched, from 0 to 1: the mean over samples and heads, and that of the best
 * head; `shown` is the share that its queries see without fetching (first tokens, last ones).
 */
export interface LayerShare {
  readonly layer: number;
  readonly mean: number;
  readonly best_head: number;
  readonly shown: number;
}

/** What a method fetched of the needle at a length; layers that fetched nothing are left out. */
export interface NeedleShare {
  readonly method: string;
  readonly length: number;
  /** Samples with a trace. */
  readonly samples: number;
  readonly question: readonly LayerShare[];
  readonly answer: readonly LayerShare[];
}

/** What was fetched of the needles, for each method and length where samples were traced and something was fetched. */
export function needleShares(run: RunIdentity, records: readonly SampleRecord[]): NeedleShare[] {
  return run.methods.flatMap((method) =>
    run.lengths.flatMap((length) => {
      const traced = tracesOf(records, method, length);
      const [question, answer] = ASKING.map((asking) => layerShares(traced.map((record) => record.retrieved[asking])));
      return question.length + answer.length === 0
        ? []
        : [{ method, length, samples: traced.length, question, answer }];
    }),
  );
}

interface Traced extends SampleRecord {
  readonly retrieved: Retrieved;
}

function tracesOf(records: readonly SampleRecord[], method: string, length: number): Traced[] {
  return records.filter(
    (record): record is Traced =>
      record.method === method && record.target_len === length && record.retrieved !== undefined,
  );
}

function layerShares(samples: readonly (readonly Fetches[])[]): LayerShare[] {
  const layers = [...new Set(samples.flat().map(({ layer }) => layer))].sort((a, b) => a - b);
  return layers.map((layer) => {
    const ofLayer = samples.flatMap((sample) => sample.filter((one) => one.layer === layer));
    const shares = ofLayer.map(({ needle }) => needle);
    const shown = decimals(mean(ofLayer.map((one) => one.shown)));
    const ofHeads = shares[0].map((_, head) => mean(shares.map((heads) => heads[head])));
    return { layer, mean: decimals(mean(ofHeads)), best_head: decimals(Math.max(...ofHeads)), shown };
  });
}

/** The names of the pictures of a run's traces, one for each length: `retrieved-8k.svg`. */
export function retrievedFiles({ retrieved = [] }: { readonly retrieved?: readonly NeedleShare[] }): string[] {
  return [...new Set(retrieved.map(({ length }) => retrievedFile(length)))];
}

function retrievedFile(length: number): string {
  return `retrieved-${lengthName(length)}.svg`;
}

/**
 * Pictures of what was fetched, a file a length: place in the text × layer, the needle's place marked; for each method the
 * question above the answer, depths side by side. The same samples give the same bytes.
 */
export async function retrievedFigures(
  run: RunIdentity,
  records: readonly SampleRecord[],
): Promise<ReadonlyMap<string, string>> {
  const shares = needleShares(run, records);
  const layers = 1 + Math.max(0, ...shares.flatMap((one) => ASKING.flatMap((asking) => one[asking].map(({ layer }) => layer)))); // prettier-ignore
  const figures = new Map<string, string>();
  for (const length of run.lengths) {
    const methods = shares.filter((one) => one.length === length);
    if (methods.length === 0) continue;
    const { placeFigure } = await import("@longctx/figures");
    const rows = methods.flatMap(({ method }) =>
      ASKING.map((asking) => ({
        title: `${method}: ${asking}`,
        panels: run.depths.map((depth) => {
          const traced = tracesOf(records, method, length).filter((record) => record.depth_requested === depth);
          return {
            title: `needle at ${depth} %`,
            shares: sharesOfBins(traced, asking, layers, length),
            marks: traced.map(({ needles: [needle] }) => ({ from: needle.tok_start, to: needle.tok_end })),
          };
        }),
      })).filter(({ panels }) =>
        panels.some(({ shares: some }) => some.some((bins) => bins.some((share) => share > 0))),
      ),
    );
    const bin = tracesOf(records, methods[0].method, length)[0].retrieved.bin;
    figures.set(
      retrievedFile(length),
      await placeFigure({
        title: `${run.model.name}: ${taskName(run)}, what was fetched at ${lengthName(length)} tokens`,
        subtitle: [
          `by layer and place in the text, bins of ${bin} tokens; mean over the queries of the question, or of the answer, over heads and trials`,
        ],
        tokens: length,
        bin,
        layers,
        rows,
        legend: "share of the bin's tokens that was fetched",
        mark: "the needle, in each trial",
      }),
    );
  }
  return figures;
}

/** [layers][bins]: which share of each bin's tokens a list has, over all samples. */
function sharesOfBins(
  traced: readonly Traced[],
  asking: (typeof ASKING)[number],
  layers: number,
  length: number,
): number[][] {
  return Array.from({ length: layers }, (_, layer) => {
    const ofLayer = traced.flatMap(({ retrieved }) => retrieved[asking].filter((one) => one.layer === layer));
    const lists = ofLayer.reduce((sum, one) => sum + one.lists, 0);
    const bin = traced[0]?.retrieved.bin ?? length;
    const tokens = Array.from({ length: Math.ceil(length / bin) }, () => 0);
    for (const { counts } of ofLayer)
      for (const [number, count] of counts) if (number < tokens.length) tokens[number] += count;
    return tokens.map((count) => (lists === 0 ? 0 : count / lists / bin));
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function decimals(value: number): number {
  return Number(value.toFixed(4));
}
