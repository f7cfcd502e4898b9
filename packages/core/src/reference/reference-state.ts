import type { Backend, SequenceState, StateBytes } from "../backend/backend.ts";
import { LongctxError } from "../common/errors.ts";
import type { RingLayout } from "../method/method.ts";
import type { ModelConfig } from "../model/config.ts";
import { Rings } from "../state/rings.ts";
import { checkMass } from "../state/attention-mass.ts";
import { checkForgetting } from "../state/memory-steps.ts";
import type { SlotMap } from "../state/slots.ts";
import { AttentionMass } from "./mass.ts";
import { LayerMemory } from "./memory.ts";

const FORMAT = "longctx reference state 3";
const FIRST_SLOTS = 64;

/** Keys and values of a layer, [slots, K, D] without rotation; the buffers double until they have the ring's capacity. */
interface LayerRows {
  keys: Float64Array;
  values: Float64Array;
}

/** A sequence in float64: of each layer a ring of keys and values, and a memory once a plan has asked for one. */
export class ReferenceState implements SequenceState {
  readonly backend: Backend;
  readonly rings: Rings;
  readonly #config: ModelConfig;
  #layers: LayerRows[];
  #memories: LayerMemory[] = [];
  #masses: AttentionMass[];

  constructor(backend: Backend, rings: Rings) {
    this.backend = backend;
    this.rings = rings;
    this.#config = backend.config;
    this.#layers = Array.from({ length: rings.layerCount }, () => ({
      keys: new Float64Array(0),
      values: new Float64Array(0),
    }));
    this.#masses = Array.from({ length: rings.layerCount }, () => new AttentionMass(backend.config.keyHeads));
    this.#reserve();
  }

  get #rowSize(): number {
    return this.#config.keyHeads * this.#config.headSize;
  }

  get bytes(): number {
    const { ring, index, memory } = this.bytesByPart;
    return ring + index + memory;
  }

  get bytesByPart(): StateBytes {
    return {
      ring: this.#layers.reduce((sum, { keys, values }) => sum + keys.byteLength + values.byteLength, 0),
      far: 0,
      // What represents blocks is computed anew for each choice, so that only attention mass is kept.
      index: this.#masses.reduce((sum, { sums }) => sum + 8 * sums.length, 0),
      memory: this.#memories.reduce((sum, { matrix, sums }) => sum + matrix.byteLength + sums.byteLength, 0),
    };
  }

  /** @throws LongctxError "argument" when the state was disposed of */
  check(): void {
    if (this.#layers.length === 0)
      throw new LongctxError("argument", "This state was disposed of; create another one.");
  }

  /** Makes room for `count` more tokens. */
  append(count: number): void {
    this.rings.append(count);
    this.#reserve();
  }

  /** Rows [n, K, D] of tokens from `first` on. */
  write(layer: number, first: number, keys: Float64Array, values: Float64Array): void {
    const size = this.#rowSize;
    const slots = this.rings.at(layer);
    for (let row = 0; row * size < keys.length; row++) {
      const at = slots.slotOf(first + row) * size;
      this.#layers[layer].keys.set(keys.subarray(row * size, (row + 1) * size), at);
      this.#layers[layer].values.set(values.subarray(row * size, (row + 1) * size), at);
    }
  }

  /** The tokens that a layer holds, in order of the text. */
  tokens(layer: number): number[] {
    return heldTokens(this.rings.at(layer));
  }

  keys(layer: number, tokens: readonly number[]): Float64Array {
    return this.#rows(layer, this.#layers[layer].keys, tokens);
  }

  values(layer: number, tokens: readonly number[]): Float64Array {
    return this.#rows(layer, this.#layers[layer].values, tokens);
  }

  /** The compressive memory of a layer; empty when it is first asked for. */
  memory(layer: number): LayerMemory {
    if (this.#memories.length === 0)
      this.#memories = Array.from({ length: this.rings.layerCount }, () => new LayerMemory(this.#config));
    return this.#memories[layer];
  }

  /** The attention mass of a layer, which is empty where no plan has asked for it. */
  mass(layer: number): AttentionMass {
    return this.#masses[layer];
  }

  #rows(layer: number, buffer: Float64Array, tokens: readonly number[]): Float64Array {
    const size = this.#rowSize;
    const slots = this.rings.at(layer);
    const rows = new Float64Array(tokens.length * size);
    tokens.forEach((token, row) => {
      if (!slots.holds(token))
        throw new LongctxError(
          "argument",
          `Token ${token} is not in the cache, which holds ${this.tokens(layer).length} of the ${slots.length} tokens read; ask for tokens that are still held.`,
        );
      const at = slots.slotOf(token) * size;
      rows.set(buffer.subarray(at, at + size), row * size);
    });
    return rows;
  }

  #reserve(): void {
    this.#layers.forEach((rows, layer) => {
      const { layout, length } = this.rings.at(layer);
      const { capacity } = layout;
      let slots = Math.min(rows.keys.length / this.#rowSize || FIRST_SLOTS, capacity);
      while (slots < Math.min(length, capacity)) slots = Math.min(slots * 2, capacity);
      if (slots * this.#rowSize === rows.keys.length) return;
      const grown = (buffer: Float64Array) => {
        const larger = new Float64Array(slots * this.#rowSize);
        larger.set(buffer);
        return larger;
      };
      this.#layers[layer] = { keys: grown(rows.keys), values: grown(rows.values) };
    });
  }

  fork(): ReferenceState {
    const copy = new ReferenceState(this.backend, this.rings.fork());
    copy.#layers = this.#layers.map(({ keys, values }) => ({ keys: keys.slice(), values: values.slice() }));
    copy.#memories = this.#memories.map((memory) => memory.fork());
    copy.#masses = this.#masses.map((mass) => mass.fork());
    return copy;
  }

  truncate(length: number): void {
    for (const { written, segment } of this.#memories) checkForgetting(written, segment, length);
    for (const { counted } of this.#masses) checkMass(counted, length);
    this.rings.truncate(length);
    if (length > 0) return;
    this.#memories = [];
    this.#masses = this.#masses.map(({ keyHeads }) => new AttentionMass(keyHeads));
  }

  dispose(): void {
    this.#layers = [];
    this.#memories = [];
    this.#masses = [];
  }

  /** A JSON header, its length before it (u32), then of each layer keys and values of the held tokens, then the memories. */
  save(): Uint8Array {
    const header = new TextEncoder().encode(
      JSON.stringify({
        format: FORMAT,
        ...shapeOf(this.#config),
        layouts: this.#layers.map((_, layer) => this.rings.at(layer).layout),
        length: this.rings.length,
        longest: this.rings.longest,
        memories: this.#memories.map(({ written, segment }) => [written, segment]),
        masses: this.#masses.map(({ counted, sums }) => [counted, sums.length]),
      }),
    );
    const parts = this.#layers.flatMap((_, layer) => {
      const tokens = this.tokens(layer);
      return [this.keys(layer, tokens), this.values(layer, tokens)];
    });
    for (const { matrix, sums } of this.#memories) parts.push(matrix, sums);
    for (const { sums } of this.#masses) parts.push(Float64Array.from(sums));
    const bytes = new Uint8Array(4 + header.length + parts.reduce((sum, part) => sum + part.byteLength, 0));
    new DataView(bytes.buffer).setUint32(0, header.length, true);
    bytes.set(header, 4);
    let at = 4 + header.length;
    for (const part of parts) {
      bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
      at += part.byteLength;
    }
    return bytes;
  }

  /** @throws LongctxError "file" when the bytes are not a state of this model, or do not hold what the layouts need */
  static restore(backend: Backend, layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array): ReferenceState {
    const { config } = backend;
    const { header, body } = readHeader(config, bytes);
    const saved = Rings.of(header.layouts, config.layerCount);
    saved.restore(header.length, header.longest);
    const size = config.keyHeads * config.headSize;
    // A header may lie about an immense text, so tokens are counted before they are listed.
    const heldCount = header.layouts.reduce((sum, _, layer) => sum + countHeld(saved.at(layer)), 0);
    const memorySize = config.keyHeads * config.headSize * (config.headSize + 1);
    const massCount = header.masses.reduce((sum, [, count]) => sum + count, 0);
    const expected = 8 * (2 * size * heldCount + memorySize * header.memories.length + massCount);
    if (body.byteLength !== expected)
      throw new LongctxError(
        "file",
        `The saved cache has ${body.byteLength} bytes of keys, values, memories and attention masses, but what it says of itself takes ${expected}. Was the file cut off?`,
      );
    const rings = Rings.of(layouts, config.layerCount);
    rings.restore(header.length, header.longest);
    const state = new ReferenceState(backend, rings);
    const held = header.layouts.map((_, layer) => heldTokens(saved.at(layer)));
    const numbers = new Float64Array(body.slice().buffer);
    let at = 0;
    const take = (count: number) => numbers.subarray(at, (at += count));
    held.forEach((tokens, layer) => {
      const slots = rings.at(layer);
      const missing = state.tokens(layer).find((token) => !saved.at(layer).holds(token));
      if (missing !== undefined)
        throw new LongctxError(
          "file",
          `The saved cache no longer holds token ${missing}, which a cache of ${slots.layout.capacity} with ${slots.layout.pinned} pinned needs; restore it under the method and in the chunks it was saved with.`,
        );
      const [keys, values] = [take(size * tokens.length), take(size * tokens.length)];
      tokens.forEach((token, row) => {
        const place = [row * size, (row + 1) * size] as const;
        if (slots.holds(token)) state.write(layer, token, keys.subarray(...place), values.subarray(...place));
      });
    });
    header.memories.forEach(([written, segment], layer) => {
      const memory = state.memory(layer);
      memory.matrix = take(memory.matrix.length).slice();
      memory.sums = take(memory.sums.length).slice();
      memory.written = written;
      memory.segment = segment;
    });
    header.masses.forEach(([counted, count], layer) => {
      const mass = state.mass(layer);
      mass.sums = Array.from(take(count));
      mass.counted = counted;
    });
    return state;
  }
}

function heldTokens(slots: SlotMap): number[] {
  return slots
    .runs(0, slots.length)
    .flatMap(({ from, to, token }) => Array.from({ length: to - from }, (_, i) => token + i));
}

function countHeld(slots: SlotMap): number {
  return slots.runs(0, slots.length).reduce((sum, { from, to }) => sum + to - from, 0);
}

function shapeOf({ layerCount, keyHeads, headSize }: ModelConfig) {
  return { layerCount, keyHeads, headSize };
}

interface Header {
  readonly layouts: readonly RingLayout[];
  readonly length: number;
  readonly longest: number;
  /** Segments written and tokens of a segment, of each layer's memory; empty where there is none. */
  readonly memories: readonly (readonly [number, number])[];
  /** Of each layer the queries whose attention mass was counted, and how many sums there are. */
  readonly masses: readonly (readonly [number, number])[];
}

function readHeader(config: ModelConfig, bytes: Uint8Array): { header: Header; body: Uint8Array } {
  const broken = (why: string) =>
    new LongctxError(
      "file",
      `These bytes are not a state that the reference backend saved (${why}); hand in what SequenceState.save wrote, unchanged.`,
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
  const { layouts, length, longest, memories, masses } = header;
  const { layerCount } = config;
  const possible =
    isCount(length) &&
    isCount(longest) &&
    longest >= length &&
    Array.isArray(layouts) &&
    layouts.length === layerCount &&
    layouts.every((layout) => isLayout(layout, length)) &&
    Array.isArray(memories) &&
    [0, layerCount].includes(memories.length) &&
    memories.every(isPairOfCounts) &&
    Array.isArray(masses) &&
    masses.length === layerCount &&
    masses.every(isPairOfCounts);
  if (!possible) throw broken("its layout is impossible");
  return { header: { layouts, length, longest, memories, masses }, body: bytes.subarray(4 + size) };
}

function isLayout(value: unknown, length: number): value is RingLayout {
  const { capacity, pinned, reach } = (value ?? {}) as Record<keyof RingLayout, unknown>;
  return (
    isCount(capacity) &&
    isCount(pinned) &&
    (reach === undefined || isCount(reach)) &&
    pinned <= capacity &&
    (pinned < capacity || length <= capacity)
  );
}

function isPairOfCounts(value: unknown): boolean {
  return Array.isArray(value) && value.length === 2 && value.every(isCount);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
