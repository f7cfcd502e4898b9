import type { ModelConfig } from "../../model/config.ts";
import { rotation } from "../../positions/rotation.ts";
import { layerPort } from "./attention-graph.ts";
import type { CacheBuffer } from "../state/cache-buffer.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { CpuCache } from "../state/cpu-cache.ts";
import { floats, type Feeds } from "./runtime.ts";

/** Binds views of a layer's cache to the inputs and outputs of its attention graph; only listed slots are copied together. */
export function bindLayer(
  config: ModelConfig,
  cache: CpuCache,
  layer: number,
  port: number,
  chunk: PreparedChunk,
  first: number,
  count: number,
  feeds: Feeds,
  outputs: Feeds,
): void {
  const { keyHeads, headSize } = config;
  const { copies, values } = cache.layers[layer];
  const slot = cache.slots.slotOf(first);
  const stored = (buffer: CacheBuffer, head: number, slots: { from: number; to: number } | Int32Array) =>
    slots instanceof Int32Array
      ? floats(gathered(buffer, head, slots, headSize), slots.length, headSize)
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
    });
  }
}

/** Copies the rows of listed slots together, [n, D]. */
function gathered(buffer: CacheBuffer, head: number, slots: Int32Array, headSize: number): Float32Array {
  const rows = new Float32Array(slots.length * headSize);
  slots.forEach((slot, i) => rows.set(buffer.view(head, slot, slot + 1), i * headSize));
  return rows;
}
