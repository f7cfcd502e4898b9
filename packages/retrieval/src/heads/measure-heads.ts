import { Capture, LongctxError, type LanguageModel, type Method } from "@longctx/core";
import { byQuality, halvesFinding, type Halves, type HalvesFinding } from "./findings.ts";
import type { Head } from "../reader/heads-file.ts";
import type { HeadProbe } from "./head-probe.ts";
import { bestSets, worthiest } from "./head-sets.ts";
import { checkProbe, ProbeScores } from "./probe-scores.ts";

export interface HeadMeasureOptions {
  /** Neighbouring tokens whose attention is summed before the best token of a sentence is taken; 3 unless given. */
  readonly phrase?: number;
  /**
   * The number of first layers whose heads are measured; all unless given. A pass ends behind them, as a reader's ends
   * behind its deepest head.
   */
  readonly layers?: number;
  /** The heads to use in place of those that the measurement would choose; what they find is the first of `sets`. */
  readonly use?: readonly Head[];
  /** The methods to read under; the plain model unless given. */
  readonly method?: Method | readonly Method[];
  readonly chunk?: number;
  /** Ends the measurement after the prompt at hand; the results are those of the prompts read so far. */
  readonly signal?: AbortSignal;
  /** Called with the number of prompts read and of all prompts. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What one head finds. */
export interface HeadFinding extends HalvesFinding {
  readonly head: Head;
}

/** What several heads together find, by the sum of their attention. */
export interface SetFinding extends HalvesFinding {
  readonly heads: readonly Head[];
}

export interface HeadResults {
  /** Prompts read and asked for; fewer were read where the measurement was stopped. */
  readonly read: number;
  readonly planned: number;
  readonly phrase: number;
  /** The heads to use, ascending: the smallest of the best sets that is worth its size on the half they are chosen by. */
  readonly best: readonly Head[];
  /** The best pairs, and sets of three and four grown from the best, by the half they are chosen by. */
  readonly sets: readonly SetFinding[];
  /** All heads of the measured layers, the best of the half they are chosen by first. */
  readonly heads: readonly HeadFinding[];
}

/** Pairs of heads that are reported. */
const PAIRS = 5;

/**
 * Measures which attention heads find the needle of prompts. Each prompt is read once, and its sentences are scored under
 * every head: a sentence's score is the largest of its tokens' scores, a token's score is the attention that it and its
 * neighbours in the phrase get from all tokens of the question (Ye, Wang, Wang 2025, arXiv:2502.12962, with heads in place
 * of a whole layer). Heads and sets of heads are chosen on one half of the prompts and judged on the other.
 * @throws LongctxError "argument" for prompts without a needle or longer than the model, "aborted" when the signal comes
 * before each half has a prompt
 */
export async function measureHeads(
  model: LanguageModel,
  probes: readonly HeadProbe[],
  options: HeadMeasureOptions = {},
): Promise<HeadResults> {
  const { phrase = 3, layers = model.config.layerCount, use, method, chunk, signal, onProgress } = options;
  checkProbes(model, probes, { phrase, layers, use, method });
  const read: ProbeScores[] = [];
  for (const probe of probes) {
    if (signal?.aborted) break;
    read.push(await scoresOf(model, probe, { phrase, layers }, { method, chunk }));
    onProgress?.(read.length, probes.length);
  }
  const halves = { chosen: read.filter(({ heldOut }) => !heldOut), heldOut: read.filter(({ heldOut }) => heldOut) };
  if (halves.chosen.length === 0 || halves.heldOut.length === 0)
    throw new LongctxError("aborted", `Stopped after ${read.length} prompts, before there was one of each half.`);
  return {
    read: read.length,
    planned: probes.length,
    phrase,
    ...resultsOf(halves, { layers, queryHeads: model.config.queryHeads, use }),
  };
}

async function scoresOf(
  model: LanguageModel,
  probe: HeadProbe,
  { phrase, layers: layerCount }: Required<Pick<HeadMeasureOptions, "phrase" | "layers">>,
  options: Pick<HeadMeasureOptions, "method" | "chunk">,
): Promise<ProbeScores> {
  const { config } = model;
  const layers = Array.from({ length: layerCount }, (_, layer) => layer);
  const capture = new Capture({ layers, hidden: false, attention: true, rows: probe.question });
  const session = model.session({ ...options, capacity: probe.ids.length });
  try {
    await session.prefill(probe.ids, { capture, stopAfter: layerCount - 1 });
  } finally {
    session.dispose();
  }
  return new ProbeScores(probe, capture, { ...config, layerCount }, phrase);
}

function resultsOf(
  halves: Halves,
  {
    layers,
    queryHeads,
    use,
  }: { readonly layers: number; readonly queryHeads: number } & Pick<HeadMeasureOptions, "use">,
): Pick<HeadResults, "best" | "sets" | "heads"> {
  const pairOf = (head: number): Head => [Math.floor(head / queryHeads), head % queryHeads];
  const numbers = Array.from({ length: layers * queryHeads }, (_, number) => number);
  const findings = numbers.map((number) => halvesFinding(halves, [number]));
  numbers.sort((a, b) => byQuality(findings[a].chosen, findings[b].chosen) || a - b);
  const single = { heads: numbers.slice(0, 1), finding: findings[numbers[0]].chosen };
  const sets = bestSets(halves.chosen, numbers.length, PAIRS);
  // The best set of each size comes first among those of its size.
  const sizes = new Map([single, ...sets].toReversed().map((set) => [set.heads.length, set]));
  const given = use?.map(([layer, head]) => layer * queryHeads + head);
  const best = given ?? worthiest([...sizes.values()].sort((a, b) => a.heads.length - b.heads.length)).heads;
  return {
    best: [...best].sort((a, b) => a - b).map(pairOf),
    sets: [...(given ? [{ heads: given }] : []), ...sets].map((set) => ({
      heads: set.heads.map(pairOf),
      ...halvesFinding(halves, set.heads),
    })),
    heads: numbers.map((number) => ({ head: pairOf(number), ...findings[number] })),
  };
}

function checkProbes(
  { config, context }: LanguageModel,
  probes: readonly HeadProbe[],
  options: { readonly phrase: number; readonly layers: number } & Pick<HeadMeasureOptions, "use" | "method">,
): void {
  const { phrase, layers, use, method } = options;
  if (!Number.isInteger(phrase) || phrase < 1)
    throw new LongctxError(
      "argument",
      `A phrase of ${phrase} tokens is impossible; give a whole number of at least 1.`,
    );
  if (!Number.isInteger(layers) || layers < 1 || layers > config.layerCount)
    throw new LongctxError(
      "argument",
      `The heads of ${layers} layers were to be measured; give a whole number from 1 to ${config.layerCount}.`,
    );
  const missing = use?.find(([layer, head]) => !isIndex(layer, layers) || !isIndex(head, config.queryHeads));
  if (use?.length === 0 || missing)
    throw new LongctxError(
      "argument",
      `The heads to use are ${missing ? `not all there: ${missing.join(".")} is none` : "none"}; name heads from 0.0 to ${layers - 1}.${config.queryHeads - 1}.`,
    );
  for (const half of [false, true])
    if (!probes.some(({ heldOut }) => heldOut === half))
      throw new LongctxError(
        "argument",
        `Of ${probes.length} probes none is ${half ? "held out" : "left to choose heads by"}; give prompts of both halves.`,
      );
  for (const probe of probes) {
    checkProbe(probe);
    if (method === undefined && probe.ids.length > context.trainedWindow)
      throw new LongctxError(
        "argument",
        `A probe has ${probe.ids.length} tokens (${probe.kind}), but the model is trained at ${context.trainedWindow}; ask for shorter prompts, or name a method that reads further.`,
      );
  }
}

function isIndex(value: number, count: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < count;
}
