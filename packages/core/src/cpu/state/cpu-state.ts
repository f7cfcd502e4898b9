import type { Backend, BlockReads, SequenceState, StateBytes, StateOptions } from "../../backend/backend.ts";
import type { NearTokens, RingLayout } from "../../method/method.ts";
import type { Choice, MemoryBranch } from "../../method/plan.ts";
import { RAW, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import { checkMass } from "../../state/attention-mass.ts";
import { checkForgetting } from "../../state/memory-steps.ts";
import { Rings } from "../../state/rings.ts";
import { sameLayout } from "../../state/same-layout.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { SharedMemory } from "../wasm/shared-memory.ts";
import { AttentionMass } from "./attention-mass.ts";
import { BlockIndex } from "./block-index.ts";
import { bufferSlots } from "./buffer-layout.ts";
import { CacheBuffer } from "./cache-buffer.ts";
import { ColdLayer } from "./cold-layer.ts";
import { CompressiveMemory, type AttendedChunk, type MemoryKernels } from "./compressive-memory.ts";
import { InverseNorms } from "./inverse-norms.ts";
import { KeyIndexes } from "./key-indexes.ts";
import { bytesOfLayers, copyRows, type LayerState, type TurnedCopy } from "./layer-state.ts";
import { RowFile } from "../far/row-places.ts";
import { saveState } from "./state-bytes.ts";

interface SharedPart {
  release(): void;
}

/** Releases the shared memory of a state that was garbage-collected without `dispose`. */
const FORGOTTEN = new FinalizationRegistry<Set<SharedPart>>((parts) => {
  for (const part of parts) part.release();
});

/** What a state takes over of the state that it is a fork of. */
interface Forked {
  readonly slots: Rings;
  storeOf(layer: number, near: NearTokens): ColdLayer;
}

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

  /** `memoryKernels` makes the kernels of compressive memories, which the backend's states share, when a plan first has one. */
  constructor(
    backend: Backend,
    rings: Rings,
    memoryKernels: () => MemoryKernels,
    { farFolder }: StateOptions = {},
    forked?: Forked,
  ) {
    this.backend = backend;
    this.rings = rings;
    this.slots = forked?.slots ?? bufferSlots(rings);
    this.#memoryKernels = memoryKernels;
    FORGOTTEN.register(this, this.#parts, this);
    const place = farFolder !== undefined && this.slots !== rings ? new RowFile(farFolder) : undefined;
    this.layers = Array.from({ length: rings.layerCount }, (_, layer) => {
      const slots = this.slots.at(layer);
      const { near, capacity } = rings.at(layer).layout;
      const whole = !near || slots.layout.capacity === capacity;
      const cold = whole ? null : (forked?.storeOf(layer, near) ?? ColdLayer.empty(near, backend, place));
      if (cold) this.#parts.add(cold);
      const keyIndexes = new KeyIndexes();
      this.#parts.add(keyIndexes);
      return {
        slots,
        cold,
        copies: new Map(),
        turned: new Set(),
        values: this.#bufferOf(slots, cold),
        indexes: [],
        mass: new AttentionMass(backend.config.keyHeads),
        norms: new Map(),
        keyIndexes,
        memory: null,
      };
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
    return bytesOfLayers(this.layers, this.#buffers);
  }

  get blockReads(): BlockReads {
    const all = this.layers.flatMap(({ cold }) => cold?.cache.reads ?? []);
    const sum = (of: keyof BlockReads) => all.reduce((total, reads) => total + reads[of], 0);
    return { read: sum("read"), fetched: sum("fetched") };
  }

  /** Is there room for all buffers in the shared memory? */
  movesTo(memory: SharedMemory): boolean {
    const missing = [...this.#buffers].filter(({ shared }) => shared?.memory !== memory);
    return memory.fits(missing.reduce((sum, { size }) => sum + 4 * size, 0));
  }

  /** The length of the longest next chunk whose slots are contiguous, in the rings and in the buffers. */
  get consecutive(): number {
    return Math.min(this.rings.consecutive, this.slots.consecutive);
  }

  /** Gives slots to the tokens of the next chunk. */
  append(count: number): void {
    this.rings.append(count);
    if (this.slots !== this.rings) this.slots.append(count);
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
    this.layers[layer].norms.delete(id);
  }

  /** Gives a layer's buffers more places for blocks of old tokens; they keep the tokens before `first`. */
  growPlaces(layer: number, places: number, first: number): void {
    const own = this.layers[layer];
    own.cold!.cache.grow(places);
    own.norms.clear();
    const larger = (buffer: CacheBuffer): CacheBuffer => {
      const made = copyRows(buffer, this.buffer(layer), own.slots, first);
      this.#dropBuffer(buffer);
      return made;
    };
    own.values = larger(own.values);
    for (const [id, copy] of own.copies) own.copies.set(id, { ...copy, buffer: larger(copy.buffer) });
  }

  /** Reads the rows of all tokens in a layer's slots from a store; copies of the keys are turned when they are needed. */
  refill(layer: number, store: ColdLayer): void {
    const { copies, slots, values, norms } = this.layers[layer];
    for (const id of copies.keys()) if (id !== RAW) this.dropCopy(layer, id);
    norms.clear();
    store.refill(slots, (copies.get(RAW) ?? this.addCopy(layer, UNROTATED)).buffer, values);
  }

  /** The inverse norms of a copy of the keys of all tokens in the ring. */
  norms(layer: number, id: string): InverseNorms {
    const { norms, copies, slots } = this.layers[layer];
    const { buffer } = copies.get(id)!;
    const known = norms.get(id) ?? new InverseNorms(this.backend.config.keyHeads, buffer.stride);
    norms.set(id, known);
    known.extend(slots, buffer);
    return known;
  }

  /** A layer's index of the blocks that a choice is about, empty at first. */
  index(layer: number, choice: Pick<Choice, "from" | "size" | "representative">): BlockIndex {
    const { indexes } = this.layers[layer];
    const known = indexes.find((index) => index.serves(choice));
    if (known) return known;
    return this.#addIndex(layer, new BlockIndex(choice, this.backend.config));
  }

  #addIndex(layer: number, index: BlockIndex): BlockIndex {
    this.#parts.add(index);
    this.layers[layer].indexes.push(index);
    return index;
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
    for (const { mass } of this.layers) checkMass(mass.counted, length);
    this.rings.truncate(length);
    const lost = this.slots === this.rings ? null : this.slots.shorten(length);
    for (const buffer of this.#buffers) buffer.truncate(length);
    this.layers.forEach(({ indexes, norms, keyIndexes, cold, slots, values, copies }, layer) => {
      for (const index of indexes) index.truncate(length);
      keyIndexes.truncate(length);
      for (const one of norms.values()) one.truncate(length);
      cold?.truncate(length, [values, ...[...copies.values()].map(({ buffer }) => buffer)]);
      if (cold && lost?.has(slots)) this.refill(layer, cold);
    });
    if (length > 0) return;
    for (const { memory, mass } of this.layers) {
      memory?.clear();
      mass.clear();
    }
  }

  /**
   * A fork has the rings of this state; where this state keeps old tokens outside of its buffers, which other layouts may
   * not allow, it has rings laid out as `layouts` says.
   */
  fork(layouts?: readonly RingLayout[]): CpuState {
    const own = this.layers.map((_, layer) => this.rings.at(layer).layout);
    const wanted = own.map((layout, layer) => (layouts && this.layers[layer].cold ? layouts[layer] : layout));
    const alike = wanted.every((layout, layer) => sameLayout(layout, own[layer]));
    const rings = alike ? this.rings.fork() : Rings.of(wanted, own.length);
    if (!alike) rings.restore(this.rings.length, this.rings.longest);
    const shorter = alike && this.slots !== this.rings ? this.slots.fork() : bufferSlots(rings);
    if (!alike && shorter !== rings) shorter.restore(this.rings.length, this.rings.length);
    const storeOf = (layer: number, near: NearTokens) => this.layers[layer].cold!.fork(near);
    const copy = new CpuState(this.backend, rings, this.#memoryKernels, {}, { slots: shorter, storeOf });
    this.layers.forEach(({ slots, values, copies, indexes, mass, memory, keyIndexes, cold }, layer) => {
      const made = copy.layers[layer];
      if (cold && !alike) copy.refill(layer, cold);
      else {
        copyRows(values, made.values, slots, slots.length);
        for (const [id, { rotation, buffer }] of copies)
          made.copies.set(id, { rotation, buffer: copyRows(buffer, copy.buffer(layer), slots, slots.length) });
      }
      for (const index of indexes) copy.#addIndex(layer, index.fork());
      made.mass.copy(mass);
      made.keyIndexes.copy(keyIndexes);
      if (memory) copy.#setMemory(layer, memory.fork());
    });
    return copy;
  }

  save(): Uint8Array {
    return saveState(this);
  }

  dispose(): void {
    for (const part of this.#parts) part.release();
    this.#parts.clear();
    this.#buffers.clear();
    FORGOTTEN.unregister(this);
    this.layers.length = 0;
  }
}
