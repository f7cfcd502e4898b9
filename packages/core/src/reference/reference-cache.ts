import type { Cache } from "../backend/backend.ts";
import type { ModelConfig } from "../model/config.ts";
import { LongctxError } from "../common/errors.ts";
import { SlotMap, type CacheLayout } from "../state/slots.ts";

const FORMAT = "longctx reference cache 1";
const FIRST_SLOTS = 64;

/** Un-rotated keys and values in float64, [slots, K, D] a layer; the buffers double until they have the layout's capacity. */
export class ReferenceCache implements Cache {
  readonly slots: SlotMap;
  readonly config: ModelConfig;
  #keys: Float64Array[];
  #values: Float64Array[];

  constructor(config: ModelConfig, slots: SlotMap) {
    this.config = config;
    this.slots = slots;
    this.#keys = Array.from({ length: config.layerCount }, () => new Float64Array(0));
    this.#values = this.#keys.slice();
    this.#reserve();
  }

  get #rowSize(): number {
    return this.config.keyHeads * this.config.headSize;
  }

  get bytes(): number {
    return [...this.#keys, ...this.#values].reduce((sum, buffer) => sum + buffer.byteLength, 0);
  }

  /** Makes room for `count` more tokens. */
  append(count: number): void {
    if (this.#keys.length === 0) throw new LongctxError("argument", "This cache was disposed of; create another one.");
    this.slots.append(count);
    this.#reserve();
  }

  /** Rows [n, K, D] of tokens from `first` on. */
  write(layer: number, first: number, keys: Float64Array, values: Float64Array): void {
    const size = this.#rowSize;
    for (let row = 0; row * size < keys.length; row++) {
      const at = this.slots.slotOf(first + row) * size;
      this.#keys[layer].set(keys.subarray(row * size, (row + 1) * size), at);
      this.#values[layer].set(values.subarray(row * size, (row + 1) * size), at);
    }
  }

  /** The tokens held, in order of the text. */
  tokens(): number[] {
    return heldTokens(this.slots);
  }

  keys(layer: number, tokens: readonly number[]): Float64Array {
    return this.#rows(this.#keys[layer], tokens);
  }

  values(layer: number, tokens: readonly number[]): Float64Array {
    return this.#rows(this.#values[layer], tokens);
  }

  #rows(buffer: Float64Array, tokens: readonly number[]): Float64Array {
    const size = this.#rowSize;
    const rows = new Float64Array(tokens.length * size);
    tokens.forEach((token, row) => {
      if (!this.slots.holds(token))
        throw new LongctxError(
          "argument",
          `Token ${token} is not in the cache, which holds ${this.tokens().length} of the ${this.slots.length} tokens read; ask for tokens that are still held.`,
        );
      const at = this.slots.slotOf(token) * size;
      rows.set(buffer.subarray(at, at + size), row * size);
    });
    return rows;
  }

  #reserve(): void {
    const { capacity } = this.slots.layout;
    const needed = Math.min(this.slots.length, capacity);
    let slots = Math.min(this.#keys[0].length / this.#rowSize || FIRST_SLOTS, capacity);
    while (slots < needed) slots = Math.min(slots * 2, capacity);
    if (slots * this.#rowSize === this.#keys[0].length) return;
    const grown = (buffer: Float64Array) => {
      const larger = new Float64Array(slots * this.#rowSize);
      larger.set(buffer);
      return larger;
    };
    this.#keys = this.#keys.map(grown);
    this.#values = this.#values.map(grown);
  }

  fork(): ReferenceCache {
    const copy = new ReferenceCache(this.config, this.slots.fork());
    copy.#keys = this.#keys.map((buffer) => buffer.slice());
    copy.#values = this.#values.map((buffer) => buffer.slice());
    return copy;
  }

  truncate(length: number): void {
    this.slots.truncate(length);
  }

  dispose(): void {
    this.#keys = [];
    this.#values = [];
  }

  /** A JSON header, its length before it (u32), then keys and values of the held tokens, layer by layer. */
  save(): Uint8Array {
    const { layout, length } = this.slots;
    const tokens = this.tokens();
    const header = new TextEncoder().encode(
      JSON.stringify({ format: FORMAT, ...shapeOf(this.config), layout, length }),
    );
    const rowsBytes = tokens.length * this.#rowSize * 8;
    const bytes = new Uint8Array(4 + header.length + 2 * this.config.layerCount * rowsBytes);
    new DataView(bytes.buffer).setUint32(0, header.length, true);
    bytes.set(header, 4);
    for (let layer = 0; layer < this.config.layerCount; layer++) {
      const at = 4 + header.length + 2 * layer * rowsBytes;
      bytes.set(new Uint8Array(this.keys(layer, tokens).buffer), at);
      bytes.set(new Uint8Array(this.values(layer, tokens).buffer), at + rowsBytes);
    }
    return bytes;
  }

  /** @throws LongctxError "file" when the bytes are not a cache of this model, or do not hold what the layout needs */
  static restore(config: ModelConfig, layout: CacheLayout, bytes: Uint8Array): ReferenceCache {
    const { saved, body } = readHeader(config, bytes);
    const size = config.keyHeads * config.headSize;
    const held = saved.runs(0, saved.length).reduce((count, run) => count + run.to - run.from, 0);
    const expected = held * size * 8 * 2 * config.layerCount;
    if (body.byteLength !== expected) {
      throw new LongctxError(
        "file",
        `The saved cache has ${body.byteLength} bytes of keys and values, but ${held} tokens of this model take ${expected}. Was the file cut off?`,
      );
    }
    const tokens = heldTokens(saved);
    const cache = new ReferenceCache(config, new SlotMap(layout));
    if (layout.pinned === layout.capacity && saved.length > layout.capacity) {
      throw new LongctxError(
        "capacity",
        `The saved cache has ${saved.length} tokens, but the new one holds ${layout.capacity}; give a capacity of at least ${saved.length}.`,
      );
    }
    cache.slots.length = saved.length;
    cache.#reserve();
    const missing = cache.tokens().find((token) => !saved.holds(token));
    if (missing !== undefined) {
      throw new LongctxError(
        "file",
        `The saved cache no longer holds token ${missing}, which a cache of ${layout.capacity} with ${layout.pinned} pinned needs; restore it under the method it was saved with.`,
      );
    }
    const rows = new Float64Array(body.slice().buffer);
    for (let layer = 0; layer < config.layerCount; layer++) {
      const keys = 2 * layer * tokens.length * size;
      const values = keys + tokens.length * size;
      tokens.forEach((token, row) => {
        if (cache.slots.holds(token))
          cache.write(
            layer,
            token,
            rows.subarray(keys + row * size, keys + (row + 1) * size),
            rows.subarray(values + row * size, values + (row + 1) * size),
          );
      });
    }
    return cache;
  }
}

function heldTokens(slots: SlotMap): number[] {
  return slots
    .runs(0, slots.length)
    .flatMap(({ from, to, token }) => Array.from({ length: to - from }, (_, i) => token + i));
}

function shapeOf({ layerCount, keyHeads, headSize }: ModelConfig) {
  return { layerCount, keyHeads, headSize };
}

function readHeader(config: ModelConfig, bytes: Uint8Array): { saved: SlotMap; body: Uint8Array } {
  const broken = (why: string) =>
    new LongctxError(
      "file",
      `These bytes are not a cache that the reference backend saved (${why}); hand in what Cache.save wrote, unchanged.`,
    );
  if (bytes.byteLength < 4) throw broken(`${bytes.byteLength} bytes`);
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (size > bytes.byteLength - 4) throw broken("its header is longer than the file");
  let header: Record<string, unknown>;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(4, 4 + size)));
  } catch {
    throw broken("its header is not JSON");
  }
  if (header === null || header.format !== FORMAT) throw broken("its header names another format");
  for (const [name, value] of Object.entries(shapeOf(config))) {
    if (header[name] !== value)
      throw new LongctxError(
        "file",
        `The saved cache has ${name} ${String(header[name])}, but the model has ${value}; restore it with the model it was saved with.`,
      );
  }
  const { capacity, pinned } = (header.layout ?? {}) as Record<string, unknown>;
  const { length } = header;
  const whole = [capacity, pinned, length].every((value) => Number.isSafeInteger(value) && (value as number) >= 0);
  if (
    !whole ||
    (pinned as number) > (capacity as number) ||
    (pinned === capacity && (length as number) > (capacity as number))
  )
    throw broken("its layout is impossible");
  const saved = new SlotMap({ capacity: capacity as number, pinned: pinned as number });
  saved.length = length as number;
  return { saved, body: bytes.subarray(4 + size) };
}
