import type { SharedMemory } from "../wasm/shared-memory.ts";

/** Numbers of `Run` and of `Unit` in kernels/src/lists.ts, four bytes each. */
const RUN_NUMBERS = 10;
const UNIT_NUMBERS = 5;
/** Bytes that a table of so many units, runs and slots takes. */
export function tableBytes(units: number, runs: number, slots: number): number {
  return 4 * (UNIT_NUMBERS * units + RUN_NUMBERS * runs + slots);
}

/** Where the query, keys and values of a run lie, and what its scores are multiplied by. */
export interface RunRows {
  readonly query: number;
  /** The address of the angles that turn the query; 0 where it is turned. */
  readonly angles: number;
  readonly keys: number;
  readonly values: number;
  /** The scales of keys and values in 8 bits; 0 where they are floats. */
  readonly keyScales: number;
  readonly valueScales: number;
  readonly scale: number;
  readonly cosine: boolean;
}

/** Writes the tables of kernels/src/lists.ts: units, each with runs one after another, and the lists of slots of the runs. */
export class ListTables {
  readonly #numbers: Int32Array;
  readonly #floats: Float32Array;
  readonly #address: number;
  readonly #runs: number;
  readonly #lists: number;
  #unit = 0;
  #run = 0;
  #slot = 0;
  /** The slots that were written last, which several heads may share. */
  #last: { readonly tokens: Int32Array; readonly address: number } | null = null;

  /** The tables begin at `address`, with room for `tableBytes`. */
  constructor(memory: SharedMemory, address: number, units: number, runs: number, slots: number) {
    const size = tableBytes(units, runs, slots) / 4;
    this.#numbers = new Int32Array(memory.memory.buffer, address, size);
    this.#floats = new Float32Array(memory.memory.buffer, address, size);
    this.#address = address;
    this.#runs = UNIT_NUMBERS * units;
    this.#lists = this.#runs + RUN_NUMBERS * runs;
  }

  /** Begins a unit, whose runs are added next. Returns the address of the unit. */
  unit(output: number, sum: number, maximum: number): number {
    const at = UNIT_NUMBERS * this.#unit++;
    const numbers = this.#numbers;
    numbers[at] = this.#address + 4 * (this.#runs + RUN_NUMBERS * this.#run);
    numbers[at + 1] = 0;
    numbers[at + 2] = output;
    numbers[at + 3] = sum;
    numbers[at + 4] = maximum;
    return this.#address + 4 * at;
  }

  /** Adds a run to the unit that was begun last; `slotOf` gives the row of a token among the keys and values. */
  run(tokens: Int32Array, slotOf: (token: number) => number, rows: RunRows): void {
    const list = this.#last?.tokens === tokens ? this.#last.address : this.#write(tokens, slotOf);
    this.#last = { tokens, address: list };
    const at = this.#runs + RUN_NUMBERS * this.#run++;
    const numbers = this.#numbers;
    numbers[at] = rows.query;
    numbers[at + 1] = rows.angles;
    numbers[at + 2] = rows.keys;
    numbers[at + 3] = rows.values;
    numbers[at + 4] = rows.keyScales;
    numbers[at + 5] = rows.valueScales;
    numbers[at + 6] = list;
    numbers[at + 7] = tokens.length;
    this.#floats[at + 8] = rows.scale;
    numbers[at + 9] = Number(rows.cosine);
    numbers[UNIT_NUMBERS * (this.#unit - 1) + 1]++;
  }

  #write(tokens: Int32Array, slotOf: (token: number) => number): number {
    const at = this.#lists + this.#slot;
    for (let i = 0; i < tokens.length; i++) this.#numbers[at + i] = slotOf(tokens[i]);
    this.#slot += tokens.length;
    return this.#address + 4 * at;
  }
}
