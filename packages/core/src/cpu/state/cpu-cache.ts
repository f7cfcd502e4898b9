import type { Cache } from "../../backend/backend.ts";
import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import type { Rotation } from "../../positions/rotation.ts";
import type { KeyCopy } from "../../state/key-copies.ts";
import { SlotMap, type CacheLayout } from "../../state/slots.ts";
import { CacheBuffer } from "./cache-buffer.ts";
import type { SharedMemory } from "../memory/shared-memory.ts";

export interface CpuKeyCopy extends KeyCopy {
  /** [K, capacity, D] */
  readonly buffer: CacheBuffer;
}

interface LayerCache {
  /** Copies of the keys by `Rotation.id`, one for each rotation that the last plan read. */
  readonly copies: Map<string, CpuKeyCopy>;
  /** Ids of the rotations that the last single token read without a copy, turning raw keys. */
  turned: ReadonlySet<string>;
  readonly values: CacheBuffer;
}

interface Header {
  readonly length: number;
  readonly slots: readonly (readonly [number, number])[];
  readonly copies: readonly (readonly string[])[];
}

/** Releases the shared memory of a cache that was garbage-collected without `dispose`. */
const FORGOTTEN = new FinalizationRegistry<Set<CacheBuffer>>((buffers) => {
  for (const buffer of buffers) buffer.release();
});

/** Keys and values of one sequence. */
export class CpuCache implements Cache {
  readonly slots: SlotMap;
  readonly layers: LayerCache[];
  readonly #config: ModelConfig;
  readonly #buffers = new Set<CacheBuffer>();

  constructor(config: ModelConfig, slots: SlotMap) {
    this.#config = config;
    this.slots = slots;
    FORGOTTEN.register(this, this.#buffers, this);
    this.layers = Array.from({ length: config.layerCount }, () => ({
      copies: new Map(),
      turned: new Set(),
      values: this.#buffer(),
    }));
  }

  #buffer(): CacheBuffer {
    const { keyHeads, headSize } = this.#config;
    const buffer = new CacheBuffer(this.slots, keyHeads, headSize);
    this.#buffers.add(buffer);
    return buffer;
  }

  #release(buffer: CacheBuffer): void {
    buffer.release();
    this.#buffers.delete(buffer);
  }

  get bytes(): number {
    return [...this.#buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0);
  }

  /** Is there room for all buffers in the shared memory? */
  movesTo(memory: SharedMemory): boolean {
    const missing = [...this.#buffers].filter(({ shared }) => shared?.memory !== memory);
    return memory.fits(missing.reduce((sum, { size }) => sum + 4 * size, 0));
  }

  /** An empty copy; it takes over the buffer of the copy `spare`, where there is one. */
  addCopy(layer: number, rotation: Rotation, spare?: string): CpuKeyCopy & { readonly rotation: Rotation } {
    const { copies } = this.layers[layer];
    const copy = { rotation, buffer: (spare !== undefined && copies.get(spare)?.buffer) || this.#buffer() };
    copy.buffer.clear();
    if (spare !== undefined) copies.delete(spare);
    copies.set(rotation.id, copy);
    return copy;
  }

  dropCopy(layer: number, id: string): void {
    const { copies } = this.layers[layer];
    const copy = copies.get(id);
    if (copy) this.#release(copy.buffer);
    copies.delete(id);
  }

  truncate(length: number): void {
    this.slots.truncate(length);
    for (const buffer of this.#buffers) buffer.truncate(length);
  }

  fork(): CpuCache {
    const copy = new CpuCache(this.#config, this.slots.fork());
    const duplicate = (buffer: CacheBuffer, to = copy.#buffer()): CacheBuffer => {
      for (const [from, end] of this.#held()) {
        for (let head = 0; head < this.#config.keyHeads; head++)
          to.place(head, from, end).set(buffer.read(head, from, end));
      }
      return to;
    };
    this.layers.forEach((layer, i) => {
      duplicate(layer.values, copy.layers[i].values);
      for (const [id, { rotation, buffer }] of layer.copies)
        copy.layers[i].copies.set(id, { rotation, buffer: duplicate(buffer) });
    });
    return copy;
  }

  /** Slots in use. */
  #held(): (readonly [number, number])[] {
    return this.slots.runs(0, this.slots.length).map((run) => [run.from, run.to] as const);
  }

  save(): Uint8Array {
    const slots = this.#held();
    const header: Header = {
      length: this.slots.length,
      slots,
      copies: this.layers.map(({ copies }) => [...copies.keys()]),
    };
    const head = new TextEncoder().encode(`${JSON.stringify(header)}\n`);
    const parts: Uint8Array[] = [head];
    for (const { copies, values } of this.layers) {
      for (const buffer of [values, ...[...copies.values()].map((copy) => copy.buffer)]) {
        for (let h = 0; h < this.#config.keyHeads; h++) {
          for (const [from, to] of slots) {
            const view = buffer.read(h, from, to);
            parts.push(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
          }
        }
      }
    }
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.byteLength;
    }
    return bytes;
  }

  static restore(config: ModelConfig, layout: CacheLayout, bytes: Uint8Array): CpuCache {
    const end = bytes.indexOf(10);
    const damaged = (cause?: unknown) =>
      new LongctxError("file", "The saved cache is damaged, or belongs to another model or capacity; prefill again.", {
        cause,
      });
    if (end < 0) throw damaged();
    try {
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Header;
      const cache = new CpuCache(config, new SlotMap(layout));
      cache.slots.length = header.length;
      if (JSON.stringify(cache.#held()) !== JSON.stringify(header.slots) || header.copies.length !== config.layerCount)
        throw damaged();
      let at = end + 1;
      const read = (buffer: CacheBuffer): void => {
        for (let h = 0; h < config.keyHeads; h++) {
          for (const [from, to] of header.slots) {
            const view = buffer.place(h, from, to);
            const part = bytes.slice(at, at + view.byteLength);
            if (part.byteLength !== view.byteLength) throw damaged();
            view.set(new Float32Array(part.buffer));
            at += part.byteLength;
          }
        }
      };
      cache.layers.forEach((layer, i) => {
        read(layer.values);
        for (const id of header.copies[i]) {
          const buffer = cache.#buffer();
          read(buffer);
          layer.copies.set(id, { rotation: null, buffer });
        }
      });
      if (at !== bytes.byteLength) throw damaged();
      return cache;
    } catch (error) {
      throw error instanceof LongctxError ? error : damaged(error);
    }
  }

  dispose(): void {
    for (const buffer of this.#buffers) this.#release(buffer);
    FORGOTTEN.unregister(this);
    for (const layer of this.layers) layer.copies.clear();
    this.layers.length = 0;
  }
}
