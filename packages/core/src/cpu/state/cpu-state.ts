import type { Backend, SequenceState, StateBytes } from "../../backend/backend.ts";
import type { RingLayout } from "../../method/method.ts";
import type { Choice, MemoryBranch } from "../../method/plan.ts";
import { RAW, type Rotation } from "../../positions/rotation.ts";
import type { KeyCopy } from "../../state/key-copies.ts";
import { otherLayout } from "../../backend/forward-checks.ts";
import { checkForgetting } from "../../state/memory-steps.ts";
import { Rings } from "../../state/rings.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { SharedMemory } from "../wasm/shared-memory.ts";
import { checkMass } from "../../state/attention-mass.ts";
import { AttentionMass } from "./attention-mass.ts";
import { BlockIndex } from "./block-index.ts";
import { CacheBuffer } from "./cache-buffer.ts";
import { CompressiveMemory, type AttendedChunk, type MemoryKernels } from "./compressive-memory.ts";
import { InverseNorms } from "./inverse-norms.ts";
import { encodeState, heldSlots, SavedState, type SavedHeader } from "./saved-state.ts";

export interface CpuKeyCopy extends KeyCopy {
  /** [K, capacity, D] */
  readonly buffer: CacheBuffer;
}

/**
 * The state of one layer: a ring of keys and values, an index for each kind of blocks, the attention mass that salient keys
 * are chosen by, a memory where a plan has one.
 */
export interface LayerState {
  readonly slots: SlotMap;
  /** Copies of the keys by `Rotation.id`, one for each rotation that the last plan read. */
  readonly copies: Map<string, CpuKeyCopy>;
  /** Ids of the rotations that the last single token read without a copy, turning raw keys. */
  turned: ReadonlySet<string>;
  readonly values: CacheBuffer;
  readonly indexes: BlockIndex[];
  readonly mass: AttentionMass;
  /** Inverse norms of copies of the keys, by `Rotation.id`, where choices are made by cosines. */
  readonly norms: Map<string, InverseNorms>;
  memory: CompressiveMemory | null;
}

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
  readonly layers: LayerState[];
  readonly #memoryKernels: () => MemoryKernels;
  readonly #buffers = new Set<CacheBuffer>();
  /** Buffers and memories. */
  readonly #parts = new Set<SharedPart>();

  /** `memoryKernels` makes the kernels of compressive memories, which the backend's states share, when a plan first has one. */
  constructor(backend: Backend, rings: Rings, memoryKernels: () => MemoryKernels) {
    this.backend = backend;
    this.rings = rings;
    this.#memoryKernels = memoryKernels;
    FORGOTTEN.register(this, this.#parts, this);
    this.layers = Array.from({ length: rings.layerCount }, (_, layer) => ({
      slots: rings.at(layer),
      copies: new Map(),
      turned: new Set(),
      values: this.buffer(layer),
      indexes: [],
      mass: new AttentionMass(backend.config.keyHeads),
      norms: new Map(),
      memory: null,
    }));
  }

  static of(
    backend: Backend,
    layouts: RingLayout | readonly RingLayout[],
    memoryKernels: () => MemoryKernels,
  ): CpuState {
    return new CpuState(backend, Rings.of(layouts, backend.config.layerCount), memoryKernels);
  }

  /** An empty buffer for keys or values of a layer. */
  buffer(layer: number): CacheBuffer {
    const { keyHeads, headSize } = this.backend.config;
    const buffer = new CacheBuffer(this.rings.at(layer), keyHeads, headSize);
    this.#buffers.add(buffer);
    this.#parts.add(buffer);
    return buffer;
  }

  get bytes(): number {
    const { ring, index, memory } = this.bytesByPart;
    return ring + index + memory;
  }

  get bytesByPart(): StateBytes {
    const sum = (bytes: readonly number[]) => bytes.reduce((total, one) => total + one, 0);
    return {
      ring: sum([...this.#buffers].map(({ byteLength }) => byteLength)),
      index: sum(
        this.layers.flatMap(({ indexes, mass, norms }) => [
          ...indexes.map(({ bytes }) => bytes),
          mass.bytes,
          ...[...norms.values()].map(({ values }) => values.byteLength),
        ]),
      ),
      memory: sum(this.layers.map(({ memory }) => memory?.bytes ?? 0)),
    };
  }

  /** Is there room for all buffers in the shared memory? */
  movesTo(memory: SharedMemory): boolean {
    const missing = [...this.#buffers].filter(({ shared }) => shared?.memory !== memory);
    return memory.fits(missing.reduce((sum, { size }) => sum + 4 * size, 0));
  }

  /** An empty copy; it takes over the buffer of the copy `spare`, where there is one. */
  addCopy(layer: number, rotation: Rotation, spare?: string): CpuKeyCopy & { readonly rotation: Rotation } {
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
    if (copy) {
      copy.buffer.release();
      this.#buffers.delete(copy.buffer);
      this.#parts.delete(copy.buffer);
    }
    copies.delete(id);
    this.layers[layer].norms.delete(id);
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
    const made = new BlockIndex(choice, this.backend.config);
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
    for (const { mass } of this.layers) checkMass(mass.counted, length);
    this.rings.truncate(length);
    for (const buffer of this.#buffers) buffer.truncate(length);
    for (const { indexes, norms } of this.layers) {
      for (const index of indexes) index.truncate(length);
      for (const one of norms.values()) one.truncate(length);
    }
    if (length > 0) return;
    for (const { memory, mass } of this.layers) {
      memory?.clear();
      mass.clear();
    }
  }

  fork(): CpuState {
    const copy = new CpuState(this.backend, this.rings.fork(), this.#memoryKernels);
    this.layers.forEach(({ slots, values, copies, indexes, mass, memory }, layer) => {
      const duplicate = (buffer: CacheBuffer, to: CacheBuffer): CacheBuffer => {
        for (const [from, end] of heldSlots(slots)) {
          for (let head = 0; head < this.backend.config.keyHeads; head++)
            to.place(head, from, end).set(buffer.read(head, from, end));
        }
        return to;
      };
      duplicate(values, copy.layers[layer].values);
      for (const [id, { rotation, buffer }] of copies)
        copy.layers[layer].copies.set(id, { rotation, buffer: duplicate(buffer, copy.buffer(layer)) });
      copy.layers[layer].indexes.push(...indexes.map((index) => index.fork()));
      copy.layers[layer].mass.copy(mass);
      if (memory) copy.#setMemory(layer, memory.fork());
    });
    return copy;
  }

  save(): Uint8Array {
    const { keyHeads } = this.backend.config;
    const floats: Float32Array[] = [];
    for (const { slots, values, copies, mass, memory } of this.layers) {
      for (const buffer of [values, ...[...copies.values()].map((copy) => copy.buffer)]) {
        for (let head = 0; head < keyHeads; head++)
          for (const [from, to] of heldSlots(slots)) floats.push(buffer.read(head, from, to));
      }
      if (memory && memory.written > 0) floats.push(memory.floats);
      floats.push(mass.sums);
    }
    const header: SavedHeader = {
      length: this.rings.length,
      longest: this.rings.longest,
      slots: this.layers.map(({ slots }) => heldSlots(slots)),
      copies: this.layers.map(({ copies }) => [...copies.keys()]),
      memories: this.layers.map(({ memory }) =>
        memory && memory.written > 0 ? [memory.written, memory.segment] : null,
      ),
      masses: this.layers.map(({ mass }) => mass.counted),
    };
    return encodeState(header, floats);
  }

  /** @throws LongctxError "file" when the bytes are not a state of this model and these layouts, "capacity" when it has no room */
  static restore(
    backend: Backend,
    layouts: RingLayout | readonly RingLayout[],
    bytes: Uint8Array,
    memoryKernels: () => MemoryKernels,
  ): CpuState {
    const state = CpuState.of(backend, layouts, memoryKernels);
    try {
      const saved = new SavedState(bytes, state.layers.length);
      const { header } = saved;
      state.rings.restore(header.length, header.longest);
      const slots = state.layers.map((layer) => heldSlots(layer.slots));
      if (JSON.stringify(slots) !== JSON.stringify(header.slots)) throw otherLayout();
      state.layers.forEach((layer, i) => {
        const read = (buffer: CacheBuffer): void => {
          for (let head = 0; head < backend.config.keyHeads; head++)
            for (const [from, to] of slots[i]) saved.take(buffer.place(head, from, to));
        };
        read(layer.values);
        for (const id of header.copies[i]) {
          const buffer = state.buffer(i);
          read(buffer);
          layer.copies.set(id, { rotation: null, buffer });
        }
        const counts = header.memories[i];
        if (counts) {
          const memory = state.memory(i);
          saved.take(memory.floats);
          [memory.written, memory.segment] = counts;
        }
        if (header.masses[i] === 0) return;
        layer.mass.extend(header.masses[i]);
        saved.take(layer.mass.sums);
      });
      saved.end();
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
