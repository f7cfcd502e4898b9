import { eventLoopTurn } from "../../common/event-loop.ts";
import type { KeyIndex } from "../../method/key-index.ts";
import type { Choice } from "../../method/plan.ts";
import { rotation } from "../../positions/rotation.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { askedBy } from "./asked.ts";
import type { AskingRows } from "./asking.ts";

/** Keys of a head that are added between two turns of the event loop. */
const ADDED_AT_ONCE = 128;
/** Single tokens make an index without examples of queries when there are so many candidates. */
const WORTH_AN_INDEX = 1024;

/** Returns whether a choice is made by an approximate index where one query asks: one of each key head. */
export function isSearched({ index, each, size, share = "heads" }: Choice): boolean {
  return index !== undefined && each !== undefined && size === 1 && share !== "heads";
}

/**
 * Adds the keys that became candidates to the layer's indexes, which are made when there are queries enough to show what
 * will be asked. Others have turns meanwhile, since a graph takes tenths of a millisecond for a key.
 */
export async function growIndexes(
  choice: Choice,
  state: CpuState,
  layer: number,
  rows: AskingRows,
): Promise<readonly KeyIndex[] | null> {
  const { keyHeads, headSize } = state.backend.config;
  const { slots, copies, keyIndexes } = state.layers[layer];
  const { from, table, keyPosition, scales } = choice;
  const maker = choice.index!;
  const { id } = rotation(table, keyPosition);
  const key = JSON.stringify([maker.id, id, from, scales !== undefined]);
  let indexes = keyIndexes.of(key, maker, headSize);
  const end = from + rows.candidates(rows.count - 1);
  if (!indexes) {
    const asked = askedBy(choice, state.backend.config, layer, rows);
    const enough = asked[0].length >= headSize * headSize;
    if (end === from || (!enough && end - from < WORTH_AN_INDEX)) return null;
    indexes = keyIndexes.create(key, maker, headSize, asked.map((queries) => (enough ? queries : undefined))); // prettier-ignore
  }
  const { buffer } = copies.get(id)!;
  const norms = scales && state.norms(layer, id);
  for (let head = 0; head < keyHeads; head++) {
    const index = indexes[head];
    if (index.length > end) index.truncate(end); // tokens that are in the window again, after a truncation of the text
    for (const run of slots.runs(Math.max(index.length, from), end)) {
      for (let slot = run.from; slot < run.to; slot += ADDED_AT_ONCE) {
        const to = Math.min(run.to, slot + ADDED_AT_ONCE);
        const keys = buffer.read(head, slot, to).slice();
        if (norms)
          for (let i = 0; i < keys.length; i++)
            keys[i] *= norms.values[head * norms.stride + slot + Math.floor(i / headSize)];
        index.add(run.token + slot - run.from, keys);
        if (to - slot > 1) await eventLoopTurn();
      }
    }
  }
  return indexes;
}

/** Returns what a single query's lists take of the indexes, [lists], ascending. */
export function searchIndexes(
  choice: Choice,
  state: CpuState,
  layer: number,
  rows: AskingRows,
  indexes: readonly KeyIndex[],
): Int32Array[] {
  const { headSize } = state.backend.config;
  const count = Math.min(choice.count, rows.candidates(0));
  return askedBy(choice, state.backend.config, layer, rows).flatMap((asked, head) =>
    Array.from({ length: asked.length / headSize }, (_, list) =>
      indexes[head]
        .search(asked.subarray(list * headSize, (list + 1) * headSize), count)
        .map((token) => token - choice.from)
        .sort(),
    ),
  );
}
