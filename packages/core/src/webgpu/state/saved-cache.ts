import { LongctxError } from "../../common/errors.ts";
import type { SlotRun } from "../../state/slots.ts";
import type { GpuCache, GpuLayer } from "./gpu-cache.ts";
import { part } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";

interface Header {
  readonly length: number;
  readonly storage: string;
  /** Bytes of one key of one head. */
  readonly rowBytes: number;
  readonly slots: readonly (readonly [number, number])[];
  readonly copies: readonly (readonly string[])[];
}

/** A line of JSON, then layer by layer the values and every copy of the keys, head by head, slots in order of the text. */
export async function writeSavedCache(cache: GpuCache): Promise<Uint8Array> {
  const runs = heldRuns(cache);
  const header: Header = {
    length: cache.slots.length,
    storage: cache.shape.storage,
    rowBytes: cache.rowBytes,
    slots: runs.map(({ from, to }) => [from, to]),
    copies: cache.layers.map(({ copies }) => [...copies.keys()]),
  };
  const line = new TextEncoder().encode(`${JSON.stringify(header)}\n`);
  const layers = cache.layers.map((layer) => {
    const places = [...layer.copies.values()].map(({ place }) => place);
    return stretches(cache, layer, places);
  });
  const sizes = layers.flat().map(({ size }) => size);
  const bytes = new Uint8Array(line.byteLength + sizes.reduce((sum, size) => sum + size, 0));
  bytes.set(line);
  let at = line.byteLength;
  // A layer at a time, so that no more than one of them is in memory twice.
  for (const slices of layers) {
    for (const some of await cache.gpu.runAndRead([], slices)) {
      bytes.set(some, at);
      at += some.byteLength;
    }
  }
  return bytes;
}

/** Fills an empty cache. @throws LongctxError "file" when the bytes belong to another model, capacity or storage */
export function readSavedCache(cache: GpuCache, bytes: Uint8Array): void {
  const damaged = (cause?: unknown) =>
    new LongctxError("file", "The saved cache is damaged, or belongs to another model or capacity; prefill again.", {
      cause,
    });
  const end = bytes.indexOf(10);
  if (end < 0) throw damaged();
  try {
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Header;
    if (header.storage !== cache.shape.storage || header.rowBytes !== cache.rowBytes) throw damaged();
    if (!Number.isSafeInteger(header.length) || header.length < 0) throw damaged();
    cache.slots.length = header.length;
    const slots = heldRuns(cache).map(({ from, to }) => [from, to]);
    if (JSON.stringify(slots) !== JSON.stringify(header.slots) || header.copies.length !== cache.layers.length)
      throw damaged();
    const rows = slots.reduce((sum, [from, to]) => sum + to - from, 0) * cache.shape.keyHeads;
    const copies = header.copies.reduce((sum, ids) => sum + 1 + ids.length, 0);
    if (bytes.byteLength !== end + 1 + copies * rows * cache.rowBytes) throw damaged();
    cache.allocateFor(
      header.length,
      header.copies.map((ids) => Math.max(1, ids.length)),
    );
    let at = end + 1;
    cache.layers.forEach((layer, i) => {
      header.copies[i].forEach((id, place) => layer.copies.set(id, { rotation: null, place }));
      for (const slice of stretches(cache, layer, [...header.copies[i].keys()])) {
        cache.gpu.write(slice, bytes.subarray(at, at + slice.size));
        at += slice.size;
      }
    });
  } catch (error) {
    throw error instanceof LongctxError ? error : damaged(error);
  }
}

/** The held slots of values and of keys in some places, in the order they are saved in. */
export function stretches(cache: GpuCache, { buffers }: GpuLayer, places: readonly number[]): GpuSlice[] {
  if (buffers.groups.length === 0) return [];
  const { keyHeads } = cache.shape;
  const heads = Array.from({ length: keyHeads }, (_, head) => head);
  const all = [
    ...heads.map((head) => cache.valuesOf(buffers, head)),
    ...places.flatMap((place) => heads.map((head) => cache.keysOf(buffers, head, place))),
  ];
  const runs = heldRuns(cache);
  return all.flatMap((head) =>
    runs.map(({ from, to }) => part(head, from * cache.rowBytes, (to - from) * cache.rowBytes)),
  );
}

function heldRuns({ slots }: GpuCache): SlotRun[] {
  return slots.runs(0, slots.length);
}
