import type { Backend, Precision } from "../../backend/backend.ts";
import { otherLayout } from "../../backend/forward-checks.ts";
import type { Rings } from "../../state/rings.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import { ColdLayer } from "./cold-layer.ts";
import type { CompressiveMemory } from "./compressive-memory.ts";
import type { LayerState } from "./layer-state.ts";
import { damagedState, encodeState, heldSlots, SavedState, type SavedHeader, type SavedPart } from "./saved-state.ts";

/** What is saved of a sequence on the cpu, and what fills it when it is restored. */
interface SavableState {
  readonly backend: Backend;
  readonly rings: Rings;
  readonly slots: Rings;
  readonly layers: readonly LayerState[];
  buffer(layer: number): CacheBuffer;
  memory(layer: number): CompressiveMemory;
  refill(layer: number, store: ColdLayer): void;
  dispose(): void;
}

/** Returns a state as bytes; where a store holds the keys and values of all tokens, it alone is saved. */
export function saveState({ backend, rings, layers }: SavableState): Uint8Array {
  const { headSize } = backend.config;
  const parts: SavedPart[] = [];
  const indexes = layers.map(({ keyIndexes }) => keyIndexes.save());
  for (const { slots, values, copies, mass, memory, cold } of layers) {
    const byteLength = storeBytes(backend, slots.length);
    if (cold) parts.push(...[cold.keys, cold.values].map((rows) => ({ byteLength, read: () => rows.save() })));
    for (const buffer of cold ? [] : [values, ...[...copies.values()].map((copy) => copy.buffer)]) {
      for (let head = 0; head < buffer.heads; head++)
        for (const [from, to] of heldSlots(slots))
          parts.push({ byteLength: 4 * (to - from) * headSize, read: () => buffer.read(head, from, to) });
    }
    if (memory && memory.written > 0) parts.push({ byteLength: memory.floats.byteLength, read: () => memory.floats });
    parts.push({ byteLength: mass.sums.byteLength, read: () => mass.sums });
  }
  for (const saved of indexes)
    for (const bytes of saved?.heads ?? []) parts.push({ byteLength: bytes.byteLength, read: () => bytes });
  const header: SavedHeader = {
    length: rings.length,
    longest: rings.longest,
    slots: layers.map(({ slots, cold }) => (cold ? [] : heldSlots(slots))),
    copies: layers.map(({ copies, cold }) => (cold ? [] : [...copies.keys()])),
    far: layers.map(({ cold }) => cold && backend.precision),
    memories: layers.map(({ memory }) => (memory && memory.written > 0 ? [memory.written, memory.segment] : null)),
    masses: layers.map(({ mass }) => mass.counted),
    keyIndexes: indexes.every((one) => one === null)
      ? undefined
      : indexes.map((one) => one && { key: one.key, sizes: one.heads.map((bytes) => bytes.byteLength) }),
  };
  return encodeState(header, parts);
}

/**
 * Fills an empty state, which is disposed of where that fails, and returns it.
 * @throws LongctxError "file" when the bytes are not a state of this model and these layouts, "capacity" when it has no room
 */
export function restoreState<State extends SavableState>(state: State, bytes: Uint8Array): State {
  try {
    fill(state, bytes);
    return state;
  } catch (error) {
    state.dispose();
    throw error;
  }
}

function fill(state: SavableState, bytes: Uint8Array): void {
  const saved = new SavedState(bytes, state.layers.length);
  const { length, longest, far, memories, masses } = saved.header;
  state.rings.restore(length, longest);
  if (state.slots !== state.rings) state.slots.restore(length, longest);
  state.layers.forEach(({ mass }, layer) => {
    const precision = far[layer];
    if (precision) restoreStore(state, layer, precision, saved);
    else restoreRing(state, layer, saved);
    const counts = memories[layer];
    if (counts) {
      const memory = state.memory(layer);
      saved.take(memory.floats);
      [memory.written, memory.segment] = counts;
    }
    if (masses[layer] === 0) return;
    mass.extend(masses[layer]);
    saved.take(mass.sums);
  });
  saved.header.keyIndexes?.forEach((one, layer) => {
    if (!one) return;
    const heads = one.sizes.map((size) => saved.bytes(size).slice());
    if (heads.length !== state.backend.config.keyHeads) throw damagedState();
    state.layers[layer].keyIndexes.restore({ key: one.key, heads });
  });
  saved.end();
}

/** The bytes of the keys, or of the values, of so many tokens in a layer's store. */
function storeBytes({ config, precision }: Pick<Backend, "config" | "precision">, tokens: number): number {
  return tokens * config.keyHeads * config.headSize * (precision === "fast" ? 2 : 4);
}

const ALL_NEAR = { first: 0, last: Infinity, block: 1, blocks: 0 };

function restoreRing(state: SavableState, layer: number, saved: SavedState): void {
  const { slots, cold, values, copies } = state.layers[layer];
  const held = heldSlots(slots);
  if (cold || JSON.stringify(held) !== JSON.stringify(saved.header.slots[layer])) throw otherLayout();
  const read = (buffer: CacheBuffer): void => {
    for (let head = 0; head < buffer.heads; head++)
      for (const [from, to] of held) saved.take(buffer.place(head, from, to));
  };
  read(values);
  for (const id of saved.header.copies[layer]) {
    const buffer = state.buffer(layer);
    read(buffer);
    copies.set(id, { rotation: null, buffer });
  }
}

/** Restores a layer from a store of all its tokens, whether its own buffers hold all of them or near ones alone. */
function restoreStore(state: SavableState, layer: number, precision: Precision, saved: SavedState): void {
  const { slots, cold } = state.layers[layer];
  const { config } = state.backend;
  const store = ColdLayer.empty(ALL_NEAR, { config, precision });
  try {
    const bytes = storeBytes({ config, precision }, slots.length);
    store.keys.restore(saved.bytes(bytes));
    store.values.restore(saved.bytes(bytes));
    slots.longest = slots.length; // every slot is filled anew, whatever it held before the text was truncated
    cold?.take(store);
    state.refill(layer, store);
  } finally {
    store.release();
  }
}
