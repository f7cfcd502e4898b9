import { AngleRows, computeRow, emptyRow, rounded, type AngleRow } from "../../positions/angle-rows.ts";
import type { FrequencyTable, PositionRule } from "../../method/plan.ts";
import type { Block, SharedMemory } from "../wasm/shared-memory.ts";
import type { TokenLane, TokenPlan } from "./token-plan.ts";

/** Keys of a block: the keys and their angles fit the processor's first-level cache. A multiple of 4. */
export const TURNED_BLOCK = 32;
/** The latest sets of key angles that are searched for an equal one before another is made. */
const LOOKED_AT = 8;
/** A record holds two addresses: of the queries' angles and of the keys'. */
const RECORD_BYTES = 8;
/** Plans whose angles are kept, since layers with different plans alternate. */
const KEPT_PLANS = 4;

/** `count` slots of a lane. */
export interface Stretch {
  readonly lane: TokenLane;
  /** Slots of the lane before the stretch. */
  readonly skipped: number;
  readonly count: number;
}

interface Placed {
  readonly plan: TokenPlan;
  /** Ids of the rotations that these blocks turn keys by. */
  readonly key: string;
  readonly records: readonly number[];
  readonly block: Block | null;
}

/** Angles by which keys are turned, given by their distances from the first key of their block. */
interface KeyAngles {
  readonly table: FrequencyTable;
  readonly distances: readonly number[];
  /** The row of the first key's angles. */
  readonly row: number;
}

/**
 * What kernels turn raw keys by, for one token. A score depends on the difference of two positions, so a block of keys is
 * turned by the distances from its first, which most blocks have in common, and the queries, for each block, by the
 * distance from there. Made once for all layers and heads that have a plan.
 */
export class TurnedBlocks {
  readonly #memory: SharedMemory;
  readonly #pairs: number;
  /** Oldest first. */
  readonly #placed: Placed[] = [];

  /** `pairs` is d/2. */
  constructor(memory: SharedMemory, pairs: number) {
    this.#memory = memory;
    this.#pairs = pairs;
  }

  /** The address of each stretch's first block, 0 where it is not to be turned. Valid until some other plans were placed. */
  place(plan: TokenPlan, stretches: readonly Stretch[], turned: ReadonlySet<string>): readonly number[] {
    if (turned.size === 0) return stretches.map(() => 0);
    const key = [...turned].join(" ");
    const known = this.#placed.find((placed) => placed.plan.lanes === plan.lanes && placed.key === key);
    if (known) return known.records;
    const spare = this.#placed.length === KEPT_PLANS ? this.#placed.shift()!.block : null;
    const made = { plan, key, ...this.#write(plan.token, stretches, turned, spare) };
    this.#placed.push(made);
    return made.records;
  }

  #write(
    query: number,
    stretches: readonly Stretch[],
    turned: ReadonlySet<string>,
    spare: Block | null,
  ): Pick<Placed, "records" | "block"> {
    const blocksOf = ({ lane, count }: Stretch) => (turned.has(lane.keys) ? Math.ceil(count / TURNED_BLOCK) : 0);
    const count = stretches.reduce((sum, stretch) => sum + blocksOf(stretch), 0);
    if (count === 0) return { records: stretches.map(() => 0), block: spare };
    const rows = new Rows(this.#pairs, count);
    const records: number[] = []; // rows of queries and of keys
    for (const stretch of stretches) if (turned.has(stretch.lane.keys)) rows.add(query, stretch, records);

    const { length } = rows.data;
    const placed = this.#room(spare, RECORD_BYTES * count + 4 * length);
    const { address } = placed;
    const first = address + RECORD_BYTES * count;
    this.#memory.floats({ address: first }, length).set(rows.data);
    const table = new Int32Array(this.#memory.memory.buffer, address, records.length);
    table.set(records.map((row) => first + row * 4 * rows.size));
    let before = 0;
    const addresses = stretches.map((stretch) => {
      const at = address + RECORD_BYTES * before;
      before += blocksOf(stretch);
      return blocksOf(stretch) > 0 ? at : 0;
    });
    return { records: addresses, block: placed };
  }

  #room(spare: Block | null, bytes: number): Block {
    if (spare && spare.bytes >= bytes) return spare;
    if (spare) this.#memory.release(spare);
    return this.#memory.allocate(Math.ceil(bytes * 1.5));
  }
}

/**
 * Builds the table of angles: first a row for the queries of each block, then the rows of keys. A row holds cos [4] and
 * sin [4] of four pairs after another; the last four are filled up.
 */
class Rows {
  /** Floats of a row. */
  readonly size: number;
  #data: Float32Array;
  #used: number;
  #blocks = 0;
  readonly #row: AngleRow;
  readonly #queries = new Map<string, AngleRows>();
  readonly #keys: KeyAngles[] = [];

  constructor(pairs: number, blocks: number) {
    this.size = 8 * Math.ceil(pairs / 4);
    this.#data = new Float32Array(this.size * (blocks + TURNED_BLOCK));
    this.#used = blocks;
    this.#row = emptyRow(pairs);
  }

  get data(): Float32Array {
    return this.#data.subarray(0, this.size * this.#used);
  }

  /** Adds the blocks of a stretch; `records` receives two rows of each, that of its queries and that of its first key. */
  add(query: number, { lane, skipped, count }: Stretch, records: number[]): void {
    const { table, queryPosition, keyPosition } = lane.segment;
    const queries = this.#queries.get(table.id) ?? new AngleRows(table.inverse);
    this.#queries.set(table.id, queries);
    const position = queryPosition.at(query);
    for (let done = 0; done < count; done += TURNED_BLOCK) {
      const end = Math.min(count, done + TURNED_BLOCK);
      const first = keyPosition.at(tokenOf(lane, skipped + done));
      const distances = distancesOf(lane, keyPosition, first, skipped + done, skipped + end);
      this.#write(this.#blocks, queries.at(position - first), table.amplitude);
      records.push(this.#blocks, this.#anglesOf(table, distances));
      this.#blocks++;
    }
  }

  #anglesOf(table: FrequencyTable, distances: readonly number[]): number {
    const known = this.#keys
      .slice(-LOOKED_AT)
      .find((one) => one.table.id === table.id && distances.every((distance, i) => one.distances[i] === distance));
    if (known) return known.row;
    const row = this.#used;
    this.#reserve(row + distances.length);
    distances.forEach((distance, i) => {
      computeRow(table.inverse, distance, this.#row);
      this.#write(row + i, this.#row, table.amplitude);
    });
    this.#used += distances.length;
    this.#keys.push({ table, distances, row });
    return row;
  }

  #reserve(rows: number): void {
    const size = this.size * rows;
    if (size <= this.#data.length) return;
    const grown = new Float32Array(2 * size);
    grown.set(this.#data);
    this.#data = grown;
  }

  #write(row: number, { cos, sin }: AngleRow, amplitude: number): void {
    const begin = this.size * row;
    for (let i = 0; i < cos.length; i++) {
      const at = begin + 8 * (i >> 2) + (i & 3);
      this.#data[at] = cos[i] * amplitude;
      this.#data[at + 4] = sin[i] * amplitude;
    }
  }
}

function distancesOf(lane: TokenLane, rule: PositionRule, first: number, from: number, to: number): number[] {
  const distances: number[] = [];
  for (let i = from; i < to; i++) distances.push(rounded(rule.at(tokenOf(lane, i)) - first));
  return distances;
}

function tokenOf({ tokens }: TokenLane, index: number): number {
  return typeof tokens === "number" ? tokens + index : tokens[index];
}
