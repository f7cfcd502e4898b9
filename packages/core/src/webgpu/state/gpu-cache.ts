import type { Cache } from "../../backend/backend.ts";
import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import { SlotMap, type CacheLayout } from "../../state/slots.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { cacheShape, type AttentionShape, type CacheShape, type LayerCache } from "../attention/attention-shape.ts";
import { movesBetween, type GpuLayer } from "./layer-buffers.ts";
import { readSavedCache, writeSavedCache } from "./saved-cache.ts";

/** Slots of a new cache; it doubles until it has the layout's capacity. */
const FIRST_SLOTS = 256;

/** Memory goes back when a cache was forgotten instead of disposed of. */
const FORGOTTEN = new FinalizationRegistry<{ readonly gpu: Gpu; readonly slices: Set<GpuSlice> }>(({ gpu, slices }) => {
  for (const slice of slices) gpu.free(slice);
});

/** Keys and values of one sequence on the device. */
export class GpuCache implements Cache {
  readonly slots: SlotMap;
  readonly layers: GpuLayer[];
  readonly gpu: Gpu;
  readonly shape: AttentionShape;
  readonly #layerCount: number;
  readonly #slices = new Set<GpuSlice>();
  #reserved = 0;
  #lastLogits: GpuSlice | null = null;
  /** What the device has not said yet of buffers, copies and writes of this cache. */
  #pending: Promise<unknown>[] = [];
  /** Why its contents mean nothing any more. */
  #broken: unknown = null;

  /** @throws LongctxError "capacity" when the device could never hold so many tokens */
  constructor(gpu: Gpu, shape: AttentionShape, layerCount: number, slots: SlotMap) {
    this.gpu = gpu;
    this.shape = shape;
    this.slots = slots;
    this.#layerCount = layerCount;
    cacheShape(shape, slots.layout.capacity, 1, gpu.capabilities);
    const empty: LayerCache = { stride: 0, places: 1, groups: [] };
    this.layers = Array.from({ length: layerCount }, () => ({ copies: new Map(), buffers: empty, mirror: null }));
    FORGOTTEN.register(this, { gpu, slices: this.#slices }, this);
  }

  /** Where the logits [V] of the last token are kept, for who wants them after all. */
  lastLogits(vocabSize: number): GpuSlice {
    if (!this.#lastLogits) {
      this.#lastLogits = this.#scoped(() => this.gpu.allocate(4 * vocabSize, "cache"));
      this.#slices.add(this.#lastLogits);
    }
    return this.#lastLogits;
  }

  get bytes(): number {
    return [...this.#slices].reduce((sum, { size }) => sum + size, 0);
  }

  /** @throws LongctxError when it was disposed of, or a failed device left it half written */
  check(): void {
    if (this.layers.length === 0) throw new LongctxError("argument", "This cache was disposed of; create another one.");
    if (this.#broken)
      throw new LongctxError("device", "The device failed while this cache was written; prefill again.", {
        cause: this.#broken,
      });
  }

  break(cause: unknown): void {
    this.#broken = cause;
  }

  /** Calls on the device that are this cache's own business; `settled` tells how they went. */
  #scoped<Result>(calls: () => Result): Result {
    const { result, told } = this.gpu.scoped(calls);
    this.#pending.push(told);
    return result;
  }

  /**
   * Null when all that was asked of the device for this cache went well; else waits until the device says so.
   * @throws LongctxError "device" when it did not: the cache is broken then
   */
  settled(): Promise<void> | null {
    return this.#pending.length === 0 ? null : this.#settle(this.#pending);
  }

  async #settle(pending: readonly Promise<unknown>[]): Promise<void> {
    try {
      await Promise.all(pending);
    } catch (error) {
      this.break(error);
      throw error;
    }
    this.#pending = this.#pending.filter((told) => !pending.includes(told));
  }

  /**
   * Room for so many tokens of the text; null where there is already. What is there stays, also when the device has not
   * the memory. @throws LongctxError "device"
   */
  reserve(length: number): Promise<void> | null {
    return Math.min(length, this.slots.layout.capacity) <= this.#reserved ? null : this.#grow(this.#slotsFor(length));
  }

  #slotsFor(length: number): number {
    const { capacity } = this.slots.layout;
    let slots = Math.max(this.#reserved, Math.min(FIRST_SLOTS, capacity));
    while (slots < Math.min(length, capacity)) slots *= 2;
    return Math.min(slots, capacity);
  }

  async #grow(slots: number): Promise<void> {
    // One layer after another, so that only one is there twice; new ones all at once.
    if (this.#reserved === 0) await this.#reshape(this.layers, slots, 1);
    else for (const layer of this.layers) await this.#reshape([layer], slots, layer.buffers.places);
    this.#reserved = slots;
  }

  /** Room for so many copies of a layer's keys, as `reserve`. */
  reservePlaces(layer: number, places: number): Promise<void> | null {
    if (places <= this.layers[layer].buffers.places) return null;
    return this.#reshape([this.layers[layer]], this.#reserved, places);
  }

  /** The old buffers go when the device has the new ones. */
  async #reshape(layers: readonly GpuLayer[], slots: number, places: number): Promise<void> {
    const shape = cacheShape(this.shape, slots, places, this.gpu.capabilities);
    const reshaped = layers.filter(({ buffers }) => buffers.stride < shape.stride || buffers.places < places);
    const { result, told } = this.gpu.scoped(() =>
      this.gpu.collect(() => reshaped.map((layer) => ({ layer, buffers: this.#allocate(shape) }))),
    );
    try {
      await told;
      this.check(); // it may have been disposed of meanwhile
    } catch (error) {
      for (const slice of result.slices) this.#free(slice);
      throw error;
    }
    for (const { layer, buffers } of result.result) {
      const old = layer.buffers;
      this.#scoped(() => this.gpu.copy(movesBetween(this.shape, old, buffers)));
      layer.buffers = buffers;
      for (const { keys, values } of old.groups) for (const slice of [keys, values]) this.#free(slice);
    }
  }

  /** Buffers of a new cache, without waiting: `places` copies of each layer's keys. */
  #allocateLayers(slots: number, places: readonly number[]): void {
    this.#reserved = slots;
    this.layers.forEach((layer, i) => {
      layer.buffers = this.#allocate(cacheShape(this.shape, slots, places[i], this.gpu.capabilities));
    });
  }

  /** The same for a text of some length. */
  #allocateFor(length: number, places: readonly number[]): void {
    this.#allocateLayers(this.#slotsFor(Math.max(1, length)), places);
  }

  #allocate({ stride, places, groups }: CacheShape): LayerCache {
    const take = (bytes: number) => {
      const slice = this.gpu.allocate(bytes, "cache");
      this.#slices.add(slice);
      return slice;
    };
    return {
      stride,
      places,
      groups: groups.map(({ firstHead, heads, keyBytes, valueBytes }) => ({
        firstHead,
        heads,
        keys: take(keyBytes),
        values: take(valueBytes),
      })),
    };
  }

  #free(slice: GpuSlice): void {
    this.gpu.free(slice);
    this.#slices.delete(slice);
  }

  truncate(length: number): void {
    this.slots.truncate(length);
    for (const { mirror } of this.layers) mirror?.truncate(length);
  }

  fork(): GpuCache {
    this.check();
    const copy = new GpuCache(this.gpu, this.shape, this.#layerCount, this.slots.fork());
    if (this.#reserved === 0) return copy;
    copy.#pending = [...this.#pending];
    try {
      copy.#scoped(() => {
        const places = this.layers.map(({ buffers }) => buffers.places);
        copy.#allocateLayers(this.#reserved, places);
        this.layers.forEach(({ buffers, copies }, i) => {
          this.gpu.copy(movesBetween(this.shape, buffers, copy.layers[i].buffers));
          for (const [id, kept] of copies) copy.layers[i].copies.set(id, kept);
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
    return writeSavedCache(this);
  }

  static restore(
    gpu: Gpu,
    shape: AttentionShape,
    { layerCount }: Pick<ModelConfig, "layerCount">,
    layout: CacheLayout,
    bytes: Uint8Array,
  ): GpuCache {
    const cache = new GpuCache(gpu, shape, layerCount, new SlotMap(layout));
    try {
      cache.#scoped(() => readSavedCache(cache, bytes, (length, places) => cache.#allocateFor(length, places)));
    } catch (error) {
      cache.dispose();
      throw error;
    }
    return cache;
  }

  dispose(): void {
    FORGOTTEN.unregister(this);
    for (const slice of this.#slices) this.gpu.free(slice);
    this.#slices.clear();
    this.layers.length = 0;
  }
}
