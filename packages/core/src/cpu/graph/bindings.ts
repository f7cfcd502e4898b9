import type { ModelConfig } from "../../model/config.ts";
import { rotation } from "../../positions/rotation.ts";
import { layerPort } from "./attention-graph.ts";
import type { Tile } from "../../state/lanes.ts";
import { nothingFound, type Found } from "../choice/list-attention.ts";
import type { CacheBuffer } from "../state/cache-buffer.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { floats, Scratch, type Feeds } from "./runtime.ts";

/** Binds views of a layer's cache to the inputs and outputs of its attention graph; only listed slots are copied together. */
export function bindLayer(
  config: ModelConfig,
  state: CpuState,
  layer: number,
  port: number,
  chunk: PreparedChunk,
  first: number,
  count: number,
  feeds: Feeds,
  outputs: Feeds,
  lists: GatheredLists,
): void {
  const { keyHeads, headSize } = config;
  const { copies, values, slots: map } = state.layers[layer];
  const slot = map.slotOf(first);
  lists.begin();
  const stored = (buffer: CacheBuffer, head: number, slots: { from: number; to: number } | Int32Array) =>
    slots instanceof Int32Array
      ? floats(lists.rows(buffer, head, slots, headSize), slots.length, headSize)
      : floats(buffer.view(head, slots.from, slots.to), slots.to - slots.from, headSize);
  const keysOf = chunk.tiles.map((tile) =>
    tile.lanes.map(({ segment }) => copies.get(rotation(segment.table, segment.keyPosition).id)!.buffer),
  );
  for (let head = 0; head < keyHeads; head++) {
    outputs[layerPort.newValues(port, head)] = floats(values.place(head, slot, slot + count), 1, count, headSize);
    for (const [i, by] of chunk.keyRotations) {
      outputs[layerPort.newKeys(port, i, head)] = floats(
        copies.get(by.id)!.buffer.place(head, slot, slot + count),
        count,
        1,
        headSize,
      );
    }
    chunk.tiles.forEach((tile, t) => {
      tile.lanes.forEach(
        (lane, l) => (feeds[layerPort.keys(port, t, l, head)] = stored(keysOf[t][l], head, lane.slots)),
      );
      tile.stretches.forEach(
        ({ slots }, s) => (feeds[layerPort.values(port, t, s, head)] = stored(values, head, slots)),
      );
      chunk.own?.[t].forEach(({ segment, unions }, l) => {
        const { tokens, mask, maskHeads } = unions[head];
        const slots = tokens.map((token) => chunk.slots.slotOf(token));
        const { buffer } = copies.get(rotation(segment.table, segment.keyPosition).id)!;
        feeds[layerPort.keys(port, t, tile.lanes.length + l, head)] = stored(buffer, head, slots);
        feeds[layerPort.values(port, t, tile.stretches.length + l, head)] = stored(values, head, slots);
        if (!chunk.shape.tiles[t].own![l].masked) return;
        feeds[layerPort.ownBias(port, t, l, head)] = mask
          ? floats(mask, tile.count, maskHeads, tokens.length)
          : floats(new Float32Array(tokens.length), 1, 1, tokens.length);
      });
    });
  }
}

/** The sums of a tile's probabilities in a key head, in the order of its lanes' tokens; the graph writes them. */
export interface TileMasses {
  readonly tile: Tile;
  readonly head: number;
  readonly sums: Float32Array;
}

/** Binds what queries and heads have found for themselves, and arrays for the sums of probabilities where they are asked for. */
export function bindFound(
  { keyHeads, queryHeads, headSize }: ModelConfig,
  { shape, tiles, own }: PreparedChunk,
  found: readonly Found[],
  count: number,
  feeds: Feeds,
  outputs: Feeds,
): TileMasses[] {
  const group = queryHeads / keyHeads;
  for (let head = 0; head < keyHeads && shape.found; head++) {
    const { output, logits } = found.at(head) ?? nothingFound(count * group, headSize);
    feeds[layerPort.found(0, head)] = floats(output, count, group, headSize);
    feeds[layerPort.foundLogits(0, head)] = floats(logits, count, group, 1);
  }
  if (!shape.masses) return [];
  return tiles.flatMap((tile, t) => {
    const width = tile.lanes.reduce((sum, lane) => sum + lane.width, 0);
    const lanes = tile.lanes.length + (own?.[t].length ?? 0);
    if (lanes === 0) return [];
    return Array.from({ length: keyHeads }, (_, head): TileMasses => {
      const ownWidth = own?.[t].reduce((sum, { unions }) => sum + unions[head].tokens.length, 0) ?? 0;
      const sums = new Float32Array(width + ownWidth + (shape.found ? 1 : 0));
      outputs[layerPort.masses(0, t, head)] = floats(sums, sums.length);
      return { tile, head, sums };
    });
  });
}

/**
 * Copies the rows of listed slots together, [n, D]; tiles of a layer that list the same slots share them, and layers share
 * the memory, so rows are valid until the next layer begins.
 */
export class GatheredLists {
  readonly #known = new Map<CacheBuffer, { head: number; slots: Int32Array; rows: Float32Array }[]>();
  readonly #scratch: Scratch[] = [];
  #used = 0;

  begin(): void {
    this.#known.clear();
    this.#used = 0;
  }

  rows(buffer: CacheBuffer, head: number, slots: Int32Array, headSize: number): Float32Array {
    const ofBuffer = this.#known.get(buffer) ?? [];
    this.#known.set(buffer, ofBuffer);
    const known = ofBuffer.find((list) => list.head === head && sameSlots(list.slots, slots));
    if (known) return known.rows;
    const rows = (this.#scratch[this.#used++] ??= new Scratch()).take(slots.length * headSize);
    for (let from = 0, to = 1; to <= slots.length; to++) {
      if (to < slots.length && slots[to] === slots[to - 1] + 1) continue;
      rows.set(buffer.view(head, slots[from], slots[from] + to - from), from * headSize);
      from = to;
    }
    ofBuffer.push({ head, slots, rows });
    return rows;
  }
}

function sameSlots(a: Int32Array, b: Int32Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
