import { LongctxError } from "../../common/errors.ts";
import { heldRuns, stretches, type HeldCache } from "./layer-buffers.ts";
import { rowBytesOf } from "../attention/attention-shape.ts";

interface Header {
  readonly length: number;
  readonly storage: string;
  /** Bytes of one key of one head. */
  readonly rowBytes: number;
  readonly slots: readonly (readonly [number, number])[];
  readonly copies: readonly (readonly string[])[];
}

/** A line of JSON, then layer by layer the values and every copy of the keys, head by head, slots in order of the text. */
export async function writeSavedCache(cache: HeldCache): Promise<Uint8Array> {
  const runs = heldRuns(cache.slots);
  const header: Header = {
    length: cache.slots.length,
    storage: cache.shape.storage,
    rowBytes: rowBytesOf(cache.shape),
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

/**
 * Fills an empty cache, whose buffers `allocateFor` makes: for a text of so many tokens, with so many copies of each layer's
 * keys. @throws LongctxError "file" when the bytes belong to another model, capacity or storage
 */
export function readSavedCache(
  cache: HeldCache,
  bytes: Uint8Array,
  allocateFor: (length: number, places: readonly number[]) => void,
): void {
  const damaged = (cause?: unknown) =>
    new LongctxError("file", "The saved cache is damaged, or belongs to another model or capacity; prefill again.", {
      cause,
    });
  const end = bytes.indexOf(10);
  if (end < 0) throw damaged();
  try {
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Header;
    if (header.storage !== cache.shape.storage || header.rowBytes !== rowBytesOf(cache.shape)) throw damaged();
    if (!Number.isSafeInteger(header.length) || header.length < 0) throw damaged();
    cache.slots.length = header.length;
    const slots = heldRuns(cache.slots).map(({ from, to }) => [from, to]);
    if (JSON.stringify(slots) !== JSON.stringify(header.slots) || header.copies.length !== cache.layers.length)
      throw damaged();
    const rows = slots.reduce((sum, [from, to]) => sum + to - from, 0) * cache.shape.keyHeads;
    const copies = header.copies.reduce((sum, ids) => sum + 1 + ids.length, 0);
    if (bytes.byteLength !== end + 1 + copies * rows * rowBytesOf(cache.shape)) throw damaged();
    allocateFor(
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
