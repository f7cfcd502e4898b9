import { checkMass } from "../../state/attention-mass.ts";
import { checkForgetting } from "../../state/memory-steps.ts";
import { quadsOf, type AttentionShape } from "../attention/attention-shape.ts";
import type { GpuSlice } from "../device/kernel.ts";
import {
  indexKey,
  memoryBytes,
  representativeOf,
  representativeRows,
  type BlockIndex,
  type GpuLayer,
  type GpuMass,
  type GpuMemory,
  type IndexKind,
} from "./layer-buffers.ts";
import type { StateBuffers } from "./state-buffers.ts";

/** Blocks of a new index, and tokens of a new attention mass; both double. */
const FIRST_BLOCKS = 64;
const FIRST_TOKENS = 256;

/** What layers have beside their rings once plans ask for it: indexes of blocks, attention masses, compressive memories. */
export class LayerParts {
  readonly #shape: AttentionShape;
  readonly #layers: readonly GpuLayer[];
  readonly #buffers: StateBuffers;

  constructor(shape: AttentionShape, layers: readonly GpuLayer[], buffers: StateBuffers) {
    this.#shape = shape;
    this.#layers = layers;
    this.#buffers = buffers;
  }

  /** The compressive memory of a layer; zeros when it is first asked for. */
  memoryOf(layer: number): GpuMemory {
    return (this.#layers[layer].memory ??= this.#buffers.scoped(() => this.#newMemory()));
  }

  #newMemory(): GpuMemory {
    const { matrix, sums } = memoryBytes(this.#shape);
    return {
      matrix: this.#buffers.take(matrix, "memory"),
      sums: this.#buffers.take(sums, "memory"),
      written: 0,
      segment: 0,
    };
  }

  /** A layer's index of blocks of one kind, with room for so many blocks. */
  indexOf(layer: number, kind: IndexKind, blocks: number): BlockIndex {
    const { indexes } = this.#layers[layer];
    const key = indexKey(kind);
    const old = indexes.get(key);
    if (old && old.capacity >= blocks) return old;
    const by = representativeOf(kind);
    const capacity = doubled(old?.capacity ?? FIRST_BLOCKS, blocks);
    const blockBytes = 16 * this.#shape.keyHeads * quadsOf(this.#shape) * representativeRows(by);
    const known = old?.known ?? 0;
    const representatives = this.#grown(capacity * blockBytes, old?.representatives, known * blockBytes);
    const index = { from: kind.from, size: kind.size, by, representatives, capacity, known };
    indexes.set(key, index);
    return index;
  }

  /** The attention mass of a layer, with room for so many tokens; zeros for those that no query has counted. */
  massOf(layer: number, tokens: number): GpuMass {
    const old = this.#layers[layer].mass;
    if (old && old.capacity >= tokens) return old;
    const capacity = doubled(old?.capacity ?? FIRST_TOKENS, tokens);
    const tokenBytes = 4 * this.#shape.keyHeads;
    const counted = old?.counted ?? 0;
    const sums = this.#grown(capacity * tokenBytes, old?.sums, counted * tokenBytes);
    return (this.#layers[layer].mass = { sums, capacity, counted });
  }

  /** A buffer of the index in place of a smaller one, of which the first bytes are kept. */
  #grown(bytes: number, old: GpuSlice | undefined, kept: number): GpuSlice {
    const slice = this.#buffers.scoped(() => {
      const larger = this.#buffers.take(bytes, "index");
      if (old && kept > 0) this.#buffers.gpu.copy([{ from: old, to: larger, size: kept }]);
      return larger;
    });
    if (old) this.#buffers.free(old);
    return slice;
  }

  /** @throws LongctxError "capacity" where a memory or an attention mass has taken in tokens after `length` */
  checkTruncation(length: number): void {
    for (const { memory, mass } of this.#layers) {
      if (memory) checkForgetting(memory.written, memory.segment, length);
      if (mass) checkMass(mass.counted, length);
    }
  }

  /** Forgets blocks that end after `length`; without any token, memories and masses too, which begin anew with zeros. */
  truncate(length: number): void {
    for (const layer of this.#layers) {
      for (const index of layer.indexes.values())
        index.known = Math.min(index.known, Math.max(0, Math.floor((length - index.from) / index.size)));
      if (length > 0) continue;
      const { memory, mass } = layer;
      for (const slice of [memory?.matrix, memory?.sums, mass?.sums]) if (slice) this.#buffers.free(slice);
      layer.memory = layer.mass = null;
    }
  }

  /** Copies the memory and the attention mass of another state's layer into the same layer of this one. */
  copyFrom({ memory, mass }: GpuLayer, layer: number): void {
    if (memory) {
      const copy = { ...this.#newMemory(), written: memory.written, segment: memory.segment };
      this.#copy(memory.matrix, copy.matrix, memory.matrix.size);
      this.#copy(memory.sums, copy.sums, memory.sums.size);
      this.#layers[layer].memory = copy;
    }
    if (mass) {
      const copy = this.massOf(layer, mass.counted);
      copy.counted = mass.counted;
      this.#copy(mass.sums, copy.sums, 4 * this.#shape.keyHeads * mass.counted);
    }
  }

  #copy(from: GpuSlice, to: GpuSlice, size: number): void {
    if (size > 0) this.#buffers.gpu.copy([{ from, to, size }]);
  }
}

/** Doubles a number until it is at least another. */
function doubled(from: number, least: number): number {
  let number = from;
  while (number < least) number *= 2;
  return number;
}
