import type { SharedMemory } from "../wasm/shared-memory.ts";

/** Fields of `Attention` in kernels/src/attention.ts, four bytes each. */
export const JOB_NUMBERS = 6;
export const PART_NUMBERS = 19;

/** The fields of `Part` there. */
export interface PartFields {
  queries: number;
  factors: number;
  keys: number;
  keyScales: number;
  values: number;
  valueScales: number;
  slot: number;
  count: number;
  scores: number;
  stride: number;
  weights: number;
  outputs: number;
  sums: number;
  maxima: number;
  blocks: number;
  turned: number;
  units: number;
  heads: number;
  firstHead: number;
}

/** Returns a part for no query head, whose fields are then set. */
export function emptyPart(): PartFields {
  return {
    queries: 0,
    factors: 0,
    keys: 0,
    keyScales: 0,
    values: 0,
    valueScales: 0,
    slot: 0,
    count: 0,
    scores: 0,
    stride: 0,
    weights: 0,
    outputs: 0,
    sums: 0,
    maxima: 0,
    blocks: 0,
    turned: 0,
    units: 0,
    heads: 0,
    firstHead: 0,
  };
}

/** What all parts of a job have in common. */
export interface JobFields {
  /** Query heads of a key head, as the joined output has them. */
  readonly heads: number;
  readonly size: number;
  readonly scale: number;
  readonly pairs: number;
  readonly block: number;
}

/** Bytes of a job of so many parts. */
export function jobBytes(parts: number): number {
  return 4 * (JOB_NUMBERS + PART_NUMBERS * parts);
}

/** Writes a job of kernels/src/attention.ts at an address, with its parts behind it. */
export class PartTable {
  readonly #numbers: Int32Array;
  #at = JOB_NUMBERS;

  constructor(memory: SharedMemory, address: number, parts: number, { heads, size, scale, pairs, block }: JobFields) {
    this.#numbers = new Int32Array(memory.memory.buffer, address, JOB_NUMBERS + PART_NUMBERS * parts);
    this.#numbers.set([address + 4 * JOB_NUMBERS, heads, size, 0, pairs, block]);
    new Float32Array(memory.memory.buffer, address + 12, 1)[0] = scale;
  }

  add(part: PartFields): void {
    const numbers = this.#numbers;
    let at = this.#at;
    numbers[at++] = part.queries;
    numbers[at++] = part.factors;
    numbers[at++] = part.keys;
    numbers[at++] = part.keyScales;
    numbers[at++] = part.values;
    numbers[at++] = part.valueScales;
    numbers[at++] = part.slot;
    numbers[at++] = part.count;
    numbers[at++] = part.scores;
    numbers[at++] = part.stride;
    numbers[at++] = part.weights;
    numbers[at++] = part.outputs;
    numbers[at++] = part.sums;
    numbers[at++] = part.maxima;
    numbers[at++] = part.blocks;
    numbers[at++] = part.turned;
    numbers[at++] = part.units;
    numbers[at++] = part.heads;
    numbers[at++] = part.firstHead;
    this.#at = at;
  }
}
