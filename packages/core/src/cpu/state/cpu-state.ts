import type { Backend, BlockReads, SequenceState, StateBytes, StateOptions } from "../../backend/backend.ts";
import type { RingLayout } from "../../method/method.ts";
import type { Choice, MemoryBranch } from "../../method/plan.ts";
import { RAW, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import { checkForgetting } from "../../state/memory-steps.ts";
import { Rings } from "../../state/rings.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { SharedMemory } from "../wasm/shared-memory.ts";
import { BlockIndex } from "./block-index.ts";
import { bufferSlots } from "./buffer-layout.ts";
import { CacheBuffer } from "./cache-buffer.ts";
import { ColdLayer } from "./cold-layer.ts";
import { CompressiveMemory, type AttendedChunk, type MemoryKernels } from "./compressive-memory.ts";
import { copyRows, type LayerState, type TurnedCopy } from "./layer-state.ts";
import { RowFile } from "./row-places.ts";
import { restoreState, saveState } from "./state-bytes.ts";

interface SharedPart {
  release(): void;
}

/** Releases the shared memory of a state that was garbage-collected without `dispose`. */
const FORGOTTEN = new FinalizationRegistry<Set<SharedPart>>((parts) => {
  for (const part of parts) part.release();
});

/** A sequence on the cpu, layer by layer. */
export class CpuState implements SequenceState {
  readonly backend: Backend;
  readonly rings: Rings;
  /** The slots of the layers' buffers; `rings` itself where all buffers are as long as their rings. */
  readonly slots: Rings;
  readonly layers: LayerState[];
  readonly #memoryKernels: () => MemoryKernels;
  readonly #buffers = new Set<CacheBuffer>();
  /** Buffers, stores of old tokens and memories. */
  readonly #parts = new Set<SharedPart>();

  /**
   * `memoryKernels` makes the kernels of compressive memories, which the backend's states share, when a plan first has
   * one. A fork `of` another state shares its stores of old tokens; others lie where `options` say.
   */
  constructor(
    backend: Backend,
    rings: Rings,
    memoryKernels: () => MemoryKernels,
    { of, farFolder }: StateOptions & { readonly of?: CpuState } = {},
  ) {
    this.backend = backend;
    this.rings = rings;
    this.slots = of && of.slots !== of.rings ? of.slots.fork() : of ? rings : bufferSlots(rings);
    this.#memoryKernels = memoryKernels;
    FORGOTTEN.register(this, this.#parts, this);
    const place = farFolder !== undefined && !of && this.slots !== rings ? new RowFile(farFolder) : undefined;
    this.layers = Array.from({ length: rings.layerCount }, (_, layer) => {
      const slots = this.slots.at(layer);
      const { near, capacity } = rings.at(layer).layout;
      const shorter = near && slots.layout.capacity < capacity ? near : null;
      const cold = shorter && (of?.layers[layer].cold?.fork() ?? ColdLayer.empty(shorter, backend, place));
      if (cold) this.#parts.add(cold);
      const values = this.#bufferOf(slots, cold);
      return { slots, cold, copies: new Map(), turned: new Set(), values, indexes: [], memory: null };
    });
  }

  static of(
    backend: Backend,
    layouts: RingLayout | readonly RingLayout[],
    memoryKernels: () => MemoryKernels,
    options?: StateOptions,
  ): CpuState {
    return new CpuState(backend, Rings.of(layouts, backend.config.layerCount), memoryKernels, options);
  }

  /** An empty buffer for keys or values of a layer. */
  buffer(layer: number): CacheBuffer {
    const { slots, cold } = this.layers[layer];
    return this.#bufferOf(slots, cold);
  }

  #bufferOf(slots: SlotMap, cold: ColdLayer | null): CacheBuffer {
    const { keyHeads, headSize } = this.backend.config;
    const buffer = new CacheBuffer(slots, keyHeads, headSize, cold?.placesBehind(slots.layout.capacity));
    this.#buffers.add(buffer);
    this.#parts.add(buffer);
    return buffer;
  }

  #dropBuffer(buffer: CacheBuffer): void {
    buffer.release();
    this.#buffers.delete(buffer);
    this.#parts.delete(buffer);
  }

  get bytes(): number {
    return Object.values(this.bytesByPart).reduce((sum, bytes) => sum + bytes, 0);
  }

  get bytesByPart(): StateBytes {
    const sum = (bytes: readonly number[]) => bytes.reduce((total, one) => total + one, 0);
    return {
      ring: sum([...this.#buffers].map(({ byteLength }) => byteLength)),
      far: sum(this.layers.map(({ cold }) => cold?.bytes ?? 0)),
      index: sum(this.layers.flatMap(({ indexes }) => indexes.map(({ bytes }) => bytes))),
      memory: sum(this.layers.map(({ memory }) => memory?.bytes ?? 0)),
    };
  }

  /** Is there room for all buffers in the shared memory? */
  movesTo(memory: SharedMemory): boolean {
    const missing = [...this.#buffers].filter(({ shared }) => shared?.memory !== memory);
    return memory.fits(missing.reduce((sum, { size }) => sum + 4 * size, 0));
  }

  /** An empty copy; it takes over the buffer of the copy `spare`, where there is one. */
  addCopy(layer: number, rotation: Rotation, spare?: string): TurnedCopy {
    const { copies } = this.layers[layer];
    const copy = { rotation, buffer: (spare !== undefined && copies.get(spare)?.buffer) || this.buffer(layer) };
    copy.buffer.clear();
    if (spare !== undefined) copies.delete(spare);
    copies.set(rotation.id, copy);
    return copy;
  }

  dropCopy(layer: number, id: string): void {
    const { copies } = this.layers[layer];
    const copy = copies.get(id);
    if (copy) this.#dropBuffer(copy.buffer);
    copies.delete(id);
  }

  get blockReads(): BlockReads {
    const all = this.layers.flatMap(({ cold }) => cold?.cache.reads ?? []);
    const sum = (of: keyof BlockReads) => all.reduce((total, reads) => total + reads[of], 0);
    return { read: sum("read"), fetched: sum("fetched") };
  }

  /** Gives slots to the tokens of the next chunk. */
  append(count: number): void {
    this.rings.append(count);
    if (this.slots !== this.rings) this.slots.append(count);
  }

  /** Gives a layer's buffers more places for blocks of old tokens; they keep the tokens before `first`. */
  growPlaces(layer: number, places: number, first: number): void {
    const own = this.layers[layer];
    own.cold!.cache.grow(places);
    const larger = (buffer: CacheBuffer): CacheBuffer => {
      const made = copyRows(buffer, this.buffer(layer), own.slots, first);
      this.#dropBuffer(buffer);
      return made;
    };
    own.values = larger(own.values);
    for (const [id, copy] of own.copies) own.copies.set(id, { ...copy, buffer: larger(copy.buffer) });
  }

  /** A layer's index of the blocks that a choice is about, empty at first. */
  index(layer: number, { from, size }: Pick<Choice, "from" | "size">): BlockIndex {
    const { indexes } = this.layers[layer];
    const known = indexes.find((index) => index.from === from && index.size === size);
    if (known) return known;
    const made = new BlockIndex(from, size, this.backend.config);
    indexes.push(made);
    return made;
  }

  /** A layer's compressive memory, empty at first. */
  memory(layer: number): CompressiveMemory {
    return this.layers[layer].memory ?? this.#setMemory(layer, new CompressiveMemory(this.#memoryKernels()));
  }

  /** Writes and reads the layer's compressive memory behind the softmax of a chunk, whose keys and values the ring holds. */
  passMemory(layer: number, branch: MemoryBranch, chunk: AttendedChunk): void {
    const { slots, copies, values } = this.layers[layer];
    this.memory(layer).pass(branch, branch.gates[layer], chunk, { slots, keys: copies.get(RAW)!.buffer, values });
  }

  #setMemory(layer: number, memory: CompressiveMemory): CompressiveMemory {
    this.#parts.add(memory);
    return (this.layers[layer].memory = memory);
  }

  truncate(length: number): void {
    for (const { memory } of this.layers) if (memory) checkForgetting(memory.written, memory.segment, length);
    this.rings.truncate(length);
    const lost = this.slots === this.rings ? null : this.slots.shorten(length);
    for (const buffer of this.#buffers) buffer.truncate(length);
    for (const { indexes } of this.layers) for (const index of indexes) index.truncate(length);
    if (length === 0) for (const { memory } of this.layers) memory?.clear();
    this.layers.forEach(({ cold, slots, values, copies }, layer) => {
      cold?.truncate(length, [values, ...[...copies.values()].map(({ buffer }) => buffer)]);
      if (cold && lost?.has(slots)) this.refill(layer, cold);
    });
  }

  /** Reads the rows of all tokens in a layer's slots from a store; copies of the keys are turned when they are needed. */
  refill(layer: number, store: ColdLayer): void {
    const { copies, slots, values } = this.layers[layer];
    for (const id of copies.keys()) if (id !== RAW) this.dropCopy(layer, id);
    store.refill(slots, (copies.get(RAW) ?? this.addCopy(layer, UNROTATED)).buffer, values);
  }

  fork(): CpuState {
    const copy = new CpuState(this.backend, this.rings.fork(), this.#memoryKernels, { of: this });
    this.layers.forEach(({ slots, values, copies, indexes, memory }, layer) => {
      const duplicate = (buffer: CacheBuffer, to: CacheBuffer) => copyRows(buffer, to, slots, slots.length);
      duplicate(values, copy.layers[layer].values);
      for (const [id, { rotation, buffer }] of copies)
        copy.layers[layer].copies.set(id, { rotation, buffer: duplicate(buffer, copy.buffer(layer)) });
      copy.layers[layer].indexes.push(...indexes.map((index) => index.fork()));
      if (memory) copy.#setMemory(layer, memory.fork());
    });
    return copy;
  }

  save(): Uint8Array {
    return saveState(this);
  }

  /** @throws LongctxError "file" when the bytes are not a state of this model and these layouts, "capacity" when it has no room */
  static restore(
    backend: Backend,
    layouts: RingLayout | readonly RingLayout[],
    bytes: Uint8Array,
    memoryKernels: () => MemoryKernels,
    options?: StateOptions,
  ): CpuState {
    const state = CpuState.of(backend, layouts, memoryKernels, options);
    try {
      restoreState(state, bytes);
      return state;
    } catch (error) {
      state.dispose();
      throw error;
    }
  }

  dispose(): void {
    for (const part of this.#parts) part.release();
    this.#parts.clear();
    this.#buffers.clear();
    FORGOTTEN.unregister(this);
    this.layers.length = 0;
  }
}
