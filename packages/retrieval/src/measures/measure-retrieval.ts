import { LongctxError, type Session } from "@longctx/core";
import { Probe } from "./measure-probe.ts";
import type { HeadMeasure, LayerMeasure, MeasurePositions } from "./retrieval-measures.ts";

export interface MeasureOptions {
  /** The text indices of the queries that are measured; 32, spread over the tokens read, unless given. */
  readonly rows?: readonly number[];
  /** The layers that are measured; all of them unless given. */
  readonly layers?: readonly number[];
  /**
   * The number k of best far tokens that recall asks for; 32 unless given. A query that fetches fewer tokens is asked for
   * as many as it fetches, and one with fewer far tokens for all of them.
   */
  readonly top?: number;
  readonly positions?: MeasurePositions;
  /** Ends the measurement; what was measured by then is returned. */
  readonly signal?: AbortSignal;
  /** Told the work done and the work there is, in tokens read or as much time; and how many rows are measured. */
  readonly onProgress?: (done: number, total: number, rows: number) => void;
}

export interface RetrievalMeasures {
  readonly positions: MeasurePositions;
  readonly top: number;
  /** The queries that were measured in every layer asked for. */
  readonly rows: readonly number[];
  /** Whether the signal ended the measurement before all rows were measured. */
  readonly aborted: boolean;
  readonly heads: readonly HeadMeasure[];
  readonly layers: readonly LayerMeasure[];
}

/** Rows that are measured unless they are given. */
const ROWS = 32;
const TOP = 32;
/** A measured row of a text of so many tokens takes about as long as reading a token. */
const TOKENS_A_ROW = 32;

/** Returns `count` text indices (or all of them) spread evenly over [from, to), the last of which is to − 1. */
export function spreadRows(from: number, to: number, count: number): number[] {
  const taken = Math.min(count, to - from);
  return Array.from({ length: taken }, (_, i) => from + Math.floor(((i + 1) * (to - from)) / taken) - 1);
}

/**
 * Reads `ids` in a fork of a session and measures its methods, a layer and query head: how many of the true best far
 * tokens they fetch, which share of the attention mass they keep, and how far the output is from that of full attention.
 * All three compare with exact attention of the same queries over the same keys and values, those that the session
 * computed under its methods, at every token of the text. The session is left as it is. Its rings have to hold the whole
 * text; those of `model.session({ capacity }).fork({ method })` do under every method.
 * @throws LongctxError "argument" where rows, layers or the session do not fit
 */
export async function measureRetrieval(
  session: Session,
  ids: readonly number[],
  options: MeasureOptions = {},
): Promise<RetrievalMeasures> {
  const { signal, onProgress, top = TOP, positions = "text" } = options;
  const { layerCount } = session.model.config;
  const [begin, end] = [session.length, session.length + ids.length];
  const rows = [...(options.rows ?? spreadRows(begin, end, ROWS))].sort((a, b) => a - b);
  const layers = options.layers ?? Array.from({ length: layerCount }, (_, layer) => layer);
  check(session, { rows, layers, top, begin, end });
  const probe = new Probe(session, { layers: new Set(layers), top, positions, signal });
  const reading = session.fork({ method: [...session.method.parts, probe.method] });
  const measured: number[] = [];
  let aborted = false;
  try {
    const work = (from: number, to: number, some: readonly number[]) =>
      to - from + some.reduce((sum, row) => sum + row / TOKENS_A_ROW, 0);
    const total = work(begin, end, rows);
    let done = 0;
    while (reading.length < end) {
      const from = reading.length;
      const to = from + reading.nextChunk(end - from);
      probe.rows = rows.filter((row) => row >= from && row < to);
      probe.length = end;
      probe.onLayer = (share) => onProgress?.(done + share * work(from, to, probe.rows), total, measured.length);
      await reading.prefill(ids.slice(from - begin, to - begin), { logitRows: 0, length: end, signal });
      measured.push(...probe.rows);
      done += work(from, to, probe.rows);
      onProgress?.(done, total, measured.length);
    }
  } catch (error) {
    if (!(error instanceof LongctxError && error.code === "aborted")) throw error;
    aborted = true;
  } finally {
    reading.dispose();
  }
  return { positions, top, rows: measured, aborted, ...probe.measures() };
}

function check(
  session: Session,
  { rows, layers, top, begin, end }: { readonly rows: readonly number[]; readonly layers: readonly number[]; readonly top: number; readonly begin: number; readonly end: number }, // prettier-ignore
): void {
  const { layerCount } = session.model.config;
  const refuse = (message: string) => new LongctxError("argument", message);
  const row = rows.find((one) => !Number.isInteger(one) || one < begin || one >= end);
  if (row !== undefined)
    throw refuse(`Row ${row} cannot be measured, the tokens read are ${begin} to ${end - 1}; give one of them.`);
  if (rows.length === 0) throw refuse("There are no rows to measure; give at least one, and a text.");
  const layer = layers.find((one) => !Number.isInteger(one) || one < 0 || one >= layerCount);
  if (layer !== undefined)
    throw refuse(`There is no layer ${layer} to measure, the model has layers 0 to ${layerCount - 1}.`);
  if (!Number.isInteger(top) || top < 1)
    throw refuse(`Recall of the best ${top} tokens cannot be measured; give a whole number of at least 1.`);
  const bounded = session.layouts.findIndex(({ capacity, pinned }) => pinned < capacity);
  if (bounded >= 0)
    throw refuse(
      `Layer ${bounded} evicts tokens under ${session.method.spec}, and exact attention needs all of them; measure model.session({ capacity }).fork({ method }), which keeps the whole text.`,
    );
}
