import type { Backend, SequenceState, StateBytes } from "../../backend/backend.ts";
import type { RingLayout } from "../../method/method.ts";
import { Rings } from "../../state/rings.ts";
import { ringShape, type AttentionShape, type RingShape, type LayerRing } from "../attention/attention-shape.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { movesBetween, type GpuLayer } from "./layer-buffers.ts";
import { LayerParts } from "./layer-parts.ts";
import { readSavedState, writeSavedState } from "./saved-state.ts";
import { StateBuffers } from "./state-buffers.ts";

/** Slots of a new ring; it doubles until it has the layout's capacity. */
const FIRST_SLOTS = 256;

/** The decoder that states belong to. */
export interface StateOwner {
  readonly backend: Backend;
  readonly gpu: Gpu;
  readonly shape: AttentionShape;
}

/** One sequence on the device: of each layer a ring of keys and values, and an index and a memory where plans ask for them. */
export class GpuState implements SequenceState {
  readonly backend: Backend;
  readonly gpu: Gpu;
  readonly shape: AttentionShape;
  readonly rings: Rings;
  readonly layers: GpuLayer[];
  readonly parts: LayerParts;
  readonly #buffers: StateBuffers;
  /** Slots that every ring has, or its whole capacity where that is less. */
  #reserved = 0;
  #lastLogits: GpuSlice | null = null;

  /** @throws LongctxError "capacity" when the device could never hold so many tokens */
  constructor({ backend, gpu, shape }: StateOwner, rings: Rings) {
    this.backend = backend;
    this.gpu = gpu;
    this.shape = shape;
    this.rings = rings;
    ringShape(shape, this.#capacity, 1, gpu.capabilities);
    const empty: LayerRing = { stride: 0, places: 1, groups: [] };
    this.layers = Array.from({ length: rings.layerCount }, () => ({
      copies: new Map(),
      buffers: empty,
      mirror: null,
      indexes: new Map(),
      mass: null,
      memory: null,
    }));
    this.#buffers = new StateBuffers(gpu);
    this.parts = new LayerParts(shape, this.layers, this.#buffers);
  }

  /** Slots of the largest ring. */
  get #capacity(): number {
    return Math.max(...this.rings.maps.map(({ layout }) => layout.capacity));
  }

  /** Where the logits [V] of the last token are kept, for who wants them after all. */
  lastLogits(vocabSize: number): GpuSlice {
    this.#lastLogits ??= this.#buffers.scoped(() => this.#buffers.take(4 * vocabSize, "ring"));
    return this.#lastLogits;
  }

  get bytes(): number {
    const { ring, index, memory } = this.bytesByPart;
    return ring + index + memory;
  }

  /** The logits that the sequence ends with count as bytes of its ring. */
  get bytesByPart(): StateBytes {
    return this.#buffers.bytesByPart;
  }

  /** @throws LongctxError when it was disposed of, or a failed device left it half written */
  check(): void {
    this.#buffers.check();
  }

  break(cause: unknown): void {
    this.#buffers.break(cause);
  }

  /** As `StateBuffers.settled`. @throws LongctxError "device" */
  settled(): Promise<void> | null {
    return this.#buffers.settled();
  }

  /**
   * Room for so many tokens of the text; null where there is already. What is there stays, also when the device has not
   * the memory. @throws LongctxError "device"
   */
  reserve(length: number): Promise<void> | null {
    return Math.min(length, this.#capacity) <= this.#reserved ? null : this.#grow(this.#slotsFor(length));
  }

  #slotsFor(length: number): number {
    const capacity = this.#capacity;
    let slots = Math.max(this.#reserved, Math.min(FIRST_SLOTS, capacity));
    while (slots < Math.min(length, capacity)) slots *= 2;
    return Math.min(slots, capacity);
  }

  async #grow(slots: number): Promise<void> {
    // One layer after another, so that only one is there twice; new ones all at once.
    const all = this.layers.map((_, layer) => layer);
    if (this.#reserved === 0) await this.#reshape(all, slots, 1);
    else for (const layer of all) await this.#reshape([layer], slots, this.layers[layer].buffers.places);
    this.#reserved = slots;
  }

  /** Room for so many copies of a layer's keys, as `reserve`. */
  reservePlaces(layer: number, places: number): Promise<void> | null {
    if (places <= this.layers[layer].buffers.places) return null;
    return this.#reshape([layer], this.#reserved, places);
  }

  #shapeOf(layer: number, slots: number, places: number): RingShape {
    const { capacity } = this.rings.at(layer).layout;
    return ringShape(this.shape, Math.min(slots, capacity), places, this.gpu.capabilities);
  }

  /** The old buffers go when the device has the new ones. */
  async #reshape(layers: readonly number[], slots: number, places: number): Promise<void> {
    const reshaped = layers
      .map((layer) => ({ layer: this.layers[layer], shape: this.#shapeOf(layer, slots, places) }))
      .filter(({ layer: { buffers }, shape }) => buffers.stride < shape.stride || buffers.places < places);
    const { result, told } = this.gpu.scoped(() =>
      this.gpu.collect(() => reshaped.map(({ layer, shape }) => ({ layer, buffers: this.#allocate(shape) }))),
    );
    try {
      await told;
      this.check(); // it may have been disposed of meanwhile
    } catch (error) {
      for (const slice of result.slices) this.#buffers.free(slice);
      throw error;
    }
    for (const { layer, buffers } of result.result) {
      const old = layer.buffers;
      this.#buffers.scoped(() => this.gpu.copy(movesBetween(this.shape, old, buffers)));
      layer.buffers = buffers;
      for (const { keys, values } of old.groups) for (const slice of [keys, values]) this.#buffers.free(slice);
    }
  }

  /** Buffers of a new state, without waiting: `places` copies of each layer's keys. */
  #allocateLayers(slots: number, places: readonly number[]): void {
    this.#reserved = slots;
    this.layers.forEach((layer, i) => {
      layer.buffers = this.#allocate(this.#shapeOf(i, slots, places[i]));
    });
  }

  #allocate({ stride, places, groups }: RingShape): LayerRing {
    return {
      stride,
      places,
      groups: groups.map(({ firstHead, heads, keyBytes, valueBytes }) => ({
        firstHead,
        heads,
        keys: this.#buffers.take(keyBytes, "ring"),
        values: this.#buffers.take(valueBytes, "ring"),
      })),
    };
  }

  truncate(length: number): void {
    this.parts.checkTruncation(length);
    this.rings.truncate(length);
    for (const { mirror } of this.layers) mirror?.truncate(length);
    this.parts.truncate(length);
  }

  /** Representatives of blocks are not copied: they are computed again from the copied ring, where the fork chooses. */
  fork(): GpuState {
    this.check();
    const copy = new GpuState(this, this.rings.fork());
    if (this.#reserved === 0) return copy;
    copy.#buffers.waitFor(this.#buffers);
    try {
      copy.#buffers.scoped(() => {
        const places = this.layers.map(({ buffers }) => buffers.places);
        copy.#allocateLayers(this.#reserved, places);
        this.layers.forEach((layer, i) => {
          this.gpu.copy(movesBetween(this.shape, layer.buffers, copy.layers[i].buffers));
          for (const [id, kept] of layer.copies) copy.layers[i].copies.set(id, kept);
          copy.parts.copyFrom(layer, i);
        });
      });
    } catch (error) {
      copy.dispose();
      throw error;
    }
    return copy;
  }

  async save(): Promise<Uint8Array> {
    this.check();
    await this.settled();
    return writeSavedState(this);
  }

  static restore(owner: StateOwner, layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array): GpuState {
    const state = new GpuState(owner, Rings.of(layouts, owner.backend.config.layerCount));
    try {
      state.#buffers.scoped(() =>
        readSavedState(state, bytes, (length, places) =>
          state.#allocateLayers(state.#slotsFor(Math.max(1, length)), places),
        ),
      );
    } catch (error) {
      state.dispose();
      throw error;
    }
    return state;
  }

  dispose(): void {
    this.#buffers.dispose();
    this.layers.length = 0;
  }
}
