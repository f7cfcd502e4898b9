import { checkFarChoices } from "./checks.ts";
import {
  candidatesOf,
  ChosenRows,
  choicesOf,
  hasChoices,
  isShared,
  withChosen,
  type AttentionPlan,
  type Choice,
  type Interval,
  type Segment,
} from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { rotation, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import type { CpuState } from "../state/cpu-state.ts";
import type { KeyCopies } from "../state/key-copies.ts";
import { growIndexes, isSearched, searchIndexes } from "./key-search.ts";
import { asksOf, listsOf, meanQuery, type AskingChunk, type AskingRows } from "./asking.ts";

/** Chooses among single tokens, and among blocks for many rows at once. */
export interface RowChooser {
  /** Returns the ascending blocks of each row and list, [rows, lists]; the cache holds the tokens of all candidates. */
  nearest(
    choice: Choice,
    state: CpuState,
    layer: number,
    rows: AskingRows,
  ): readonly Int32Array[] | Promise<readonly Int32Array[]>;
}

/** A layer that chooses, and what chooses in it. */
export interface ChoosingLayer {
  readonly state: CpuState;
  readonly layer: number;
  readonly copies: KeyCopies;
  readonly chooser: RowChooser;
}

/**
 * Returns whether the chunk's own keys have to be in the cache before the layer chooses: where its tokens may be
 * candidates, which is so for queries that choose for themselves, or where a choice is among keys of its own rotation.
 */
export function choosesFromCache(plan: AttentionPlan, first: number): boolean {
  if (!hasChoices(plan)) return false;
  return choicesOf(plan).some(
    (choice) =>
      choice.each !== undefined || !isIndexed(choice) || choice.from + choice.candidates * choice.size > first,
  );
}

/**
 * Returns whether all choices of a plan become lists of single queries or heads, so that what the queries share is the same
 * in all layers that have the plan.
 */
export function choosesApart(plan: AttentionPlan): boolean {
  return choicesOf(plan).every((choice) => !isShared(choice));
}

/** Returns the rotations of the keys that a plan's choices are made from. */
export function chosenFrom(plan: AttentionPlan): Rotation[] {
  return choicesOf(plan).map((choice) => (isIndexed(choice) ? UNROTATED : rotation(choice.table, choice.keyPosition)));
}

/**
 * Returns the plan of a layer with the tokens of the chosen blocks in place of its choices: those that all queries share as
 * lists, or as ranges of consecutive tokens, a segment each; others as lists for each query and head.
 */
export async function choose(
  plan: AttentionPlan,
  at: ChoosingLayer,
  chunk: AskingChunk,
  as: "lists" | "ranges",
): Promise<AttentionPlan> {
  checkFarChoices(plan);
  const taken = new Map<string, readonly number[] | ChosenRows>();
  for (const choice of choicesOf(plan)) {
    const answers = answersTo(choice, at, chunk);
    taken.set(choice.id, answers instanceof Promise ? await answers : answers);
  }
  if (as === "lists") return withChosen(plan, ({ id }) => taken.get(id)!);
  const segments = plan.segments.flatMap((segment): Segment[] => {
    if (!("choice" in segment.tokens)) return [segment];
    const { choice, ranks } = segment.tokens;
    const blocks = taken.get(choice.id)!;
    if (blocks instanceof ChosenRows) return [segment];
    return rangesOf(choice, blocks.slice(ranks.from, ranks.to)).map((tokens) => ({ ...segment, tokens }));
  });
  return withChosen({ ...plan, segments }, ({ id }) => taken.get(id)!);
}

type Answers = readonly number[] | ChosenRows;

/** Returns the blocks that all queries and heads share, or those of each query and list. */
function answersTo(choice: Choice, at: ChoosingLayer, chunk: AskingChunk): Answers | Promise<Answers> {
  const { state, layer, chooser } = at;
  const { config } = state.backend;
  const { asking, each, candidates, count } = choice;
  const own = { from: Math.max(asking.from, chunk.first), to: Math.min(asking.to, chunk.first + chunk.count) };
  const rowCount = Math.max(0, own.to - own.from);
  const lists = listsOf(choice, config);
  const answer = (chosen: readonly Int32Array[]): Answers => {
    if (isShared(choice)) return Array.from(chosen[0]);
    const all = each ? chosen : Array.from({ length: rowCount }, () => chosen).flat();
    return new ChosenRows(own.from, rowCount, lists, all);
  };
  if (candidates === 0 || count === 0 || rowCount === 0)
    return answer(Array.from({ length: (each ? rowCount : 1) * lists }, () => NO_BLOCKS));
  if (isIndexed(choice) && (!each || rowCount === 1)) {
    const query = each
      ? rowsOf(choice, chunk, own, config).queries
      : meanQuery(chunk, own.from - chunk.first, own.to - chunk.first, config);
    const among = candidatesOf(choice, own.from);
    const index = indexOf(choice, at, chunk.first);
    const asks = asksOf(choice, config, query, choice.queryPosition.at(each ? own.from : asking.from));
    return answer(asks.map((ask) => Int32Array.from(index.best(ask, among, Math.min(count, among)))));
  }
  if (isIndexed(choice)) indexOf(choice, at, chunk.first);
  const rows = each ? rowsOf(choice, chunk, own, config) : oneRow(choice, chunk, own, config);
  if (isSearched(choice)) return searched(choice, at, rows).then(answer);
  const chosen = chooser.nearest(choice, state, layer, rows);
  return chosen instanceof Promise ? chosen.then(answer) : answer(chosen);
}

/**
 * Returns the tokens that a choice with an approximate index of keys takes. A single query searches the index. Several
 * queries of a chunk score all keys exactly, in one matrix product; then the chunk's keys are added to the index.
 */
async function searched(
  choice: Choice,
  { state, layer, chooser }: ChoosingLayer,
  rows: AskingRows,
): Promise<readonly Int32Array[]> {
  const exact = rows.count > 1 ? await chooser.nearest(choice, state, layer, rows) : null;
  const indexes = await growIndexes(choice, state, layer, rows);
  if (exact) return exact;
  return indexes ? searchIndexes(choice, state, layer, rows, indexes) : chooser.nearest(choice, state, layer, rows);
}

const NO_BLOCKS = new Int32Array(0);

/** Returns whether blocks are chosen by an index of what represents them, and not by the keys of the cache. */
export function isIndexed(choice: Choice): boolean {
  const { size, keyPosition } = choice;
  return size > 1 || (isShared(choice) && keyPosition.id === "0" && choice.scales === undefined);
}

/** Indexes the blocks that became candidates. */
function indexOf(choice: Choice, { state, layer, copies }: ChoosingLayer, first: number) {
  const index = state.index(layer, choice);
  const { slots, mass, cold } = state.layers[layer];
  const rows = cold?.keyRows ?? { slots, keys: copies.raw(state, layer, first) };
  index.extend(choice.candidates, { ...rows, mass });
  return index;
}

/** The queries of a chunk that choose for themselves. */
function rowsOf(
  choice: Choice,
  { first, projected }: AskingChunk,
  own: Interval,
  { queryHeads, keyHeads, headSize }: ModelConfig,
): AskingRows {
  const stride = (queryHeads + 2 * keyHeads) * headSize;
  return {
    queries: projected.subarray((own.from - first) * stride),
    stride,
    count: own.to - own.from,
    query: (row) => own.from + row,
    candidates: (row) => candidatesOf(choice, own.from + row),
  };
}

/** The mean of all asking queries, as a row of its own. */
function oneRow(choice: Choice, chunk: AskingChunk, own: Interval, config: ModelConfig): AskingRows {
  const mean = meanQuery(chunk, own.from - chunk.first, own.to - chunk.first, config);
  return {
    queries: Float32Array.from(mean),
    stride: mean.length,
    count: 1,
    query: () => choice.asking.from,
    candidates: () => choice.candidates,
  };
}

/** The tokens of some blocks, ascending, in ranges as long as possible. */
function rangesOf({ from, size }: Choice, blocks: readonly number[]): Interval[] {
  const ranges: { from: number; to: number }[] = [];
  for (const block of blocks) {
    const begin = from + block * size;
    const last = ranges.at(-1);
    if (last?.to === begin) last.to += size;
    else ranges.push({ from: begin, to: begin + size });
  }
  return ranges;
}
