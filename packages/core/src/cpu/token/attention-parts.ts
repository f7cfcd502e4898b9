import type { ModelConfig } from "../../model/config.ts";
import { turnRows } from "../../positions/rotation.ts";
import type { TokenSlots } from "../../state/slots.ts";
import type { SharedRows } from "../state/cache-buffer.ts";
import type { LayerState } from "../state/layer-state.ts";
import { SharedScratch, type Floats } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";
import { foundParts, type FoundParts, type FoundRun } from "./found-runs.ts";
import { layOutParts, placePart, STRIDE, type Layout } from "./part-layout.ts";
import type { AttendedParts } from "./part-masses.ts";
import { emptyPart, PartTable, type PartFields } from "./part-table.ts";
import type { SharedCache } from "./shared-cache.ts";
import { headLists, TokenLists, type HeadLists } from "./token-lists.ts";
import type { TokenList, TokenPlan } from "./token-plan.ts";
import { TURNED_BLOCK, TurnedBlocks, type Stretch } from "./turned-blocks.ts";

/** Slots of a part: short enough to give all threads some, long enough to be worth joining. */
const LONGEST_PART = 1024;
const SHORTEST_PART = 64;
/** The maximum of a part without slots, as kernels/src/lists.ts has it. */
const NOTHING = -1e30;

/** The keys that some lanes read: a copy under their rotation, or raw keys that the kernels turn. */
export interface LaneKeys {
  readonly rows: SharedRows;
  readonly raw: boolean;
}

/** The rows of a layer as kernels read them. */
export interface TokenRows {
  /** By `TokenLane.keys` and `TokenList.keys`. */
  readonly keys: ReadonlyMap<string, LaneKeys>;
  readonly values: SharedRows;
  /** Rows from one head to the next. */
  readonly stride: number;
  readonly layer: LayerState;
}

/** Some slots and query heads of a key head, whose queries are in a place of their own: raw ones behind those of all rotations. */
interface Slice extends Omit<FoundRun, "list"> {
  readonly list: Pick<TokenList, "keys">;
  readonly rotation: number;
}

const NO_RUNS: FoundParts = { runs: [], lists: null };

/** Divides the attention of one token into parts, a stretch of slots of one key head each, which threads compute. */
export class AttentionParts {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #compact: boolean;
  readonly #blocks: TurnedBlocks;
  readonly #scratch: SharedScratch;
  readonly #found: TokenLists;

  constructor(config: ModelConfig, dense: Dense, cache: SharedCache) {
    this.#config = config;
    this.#dense = dense;
    this.#compact = cache.compact;
    this.#scratch = new SharedScratch(dense.memory);
    this.#found = new TokenLists(config, dense, cache);
    this.#blocks = new TurnedBlocks(dense.memory, config.rope.rotarySize / 2);
  }

  /** Writes `attended` [H, D]. Returns the parts, whose results are valid until the next call. */
  attend(plan: TokenPlan, rows: TokenRows, projected: Float32Array, attended: Floats): AttendedParts {
    const { queryHeads, keyHeads, headSize, rope } = this.#config;
    const { functions, memory } = this.#dense;
    const group = queryHeads / keyHeads;
    const longest = this.#longest(plan.width);
    const stretches = stretchesOf(plan, longest);
    const { runs, lists } =
      plan.found.length === 0
        ? NO_RUNS
        : foundParts(headLists(plan.found, plan.token, queryHeads), plan.slots!, this.#config, LONGEST_PART);
    // Parts of a key head: stretches of lanes, runs that heads have found, lists of scattered slots. All have equally many.
    const found = Math.max(0, ...runs.map((ofHead) => ofHead.length));
    const each = stretches.length + found + (lists ? 1 : 0);
    const most = stretches.reduce((sum, { count }) => Math.max(sum, count), found > 0 ? LONGEST_PART : 0);
    const layout = layOutParts(this.#scratch, {
      parts: keyHeads * each,
      rotations: plan.turns.length,
      queryHeads,
      group,
      headSize,
      longest: Math.max(most, lists?.longest ?? 0),
    });
    this.#queries(plan, projected, layout);
    const parts = { stretches, each, layout };
    if (each === 0) {
      attended.data.fill(0);
      return parts;
    }
    const raw = new Set([...rows.keys].filter(([, keys]) => keys.raw).map(([id]) => id));
    const blocks = this.#blocks.place(plan, stretches, raw);
    const job = { heads: group, size: headSize, scale: 1 / Math.sqrt(headSize), pairs: rope.rotarySize / 2 };
    const table = new PartTable(memory, layout.job, keyHeads * each, { ...job, block: TURNED_BLOCK });
    const units = lists && this.#placeLists(lists, layout, each, rows.layer, plan.slots!);
    if (found > 0) this.#clear(layout, keyHeads * each * group);
    const part = emptyPart();
    const lanes = stretches.map(({ lane, skipped, count }): Slice => {
      const rotation = raw.has(lane.keys) ? plan.turns.length : lane.rotation;
      return { list: lane, rotation, firstHead: 0, heads: group, from: lane.from + skipped, count };
    });
    for (let head = 0; head < keyHeads; head++) {
      for (let i = 0; i < lanes.length; i++) {
        this.#slice(part, head, lanes[i], rows, layout, head * each + i);
        part.blocks = blocks[i];
        table.add(part);
      }
      part.blocks = 0;
      for (let i = 0; i < found; i++) {
        const run = runs[head].at(i);
        if (run)
          this.#slice(part, head, { ...run, rotation: run.list.rotation }, rows, layout, head * each + lanes.length + i); // prettier-ignore
        else part.heads = 0;
        table.add(part);
      }
      if (!units) continue;
      // Units say themselves where everything is; their part has the scratch memory.
      placePart(part, layout, (head + 1) * each - 1, group, headSize, 0);
      table.add({ ...part, units: units[head * group], heads: group, firstHead: 0 });
    }
    functions.attend(layout.job, keyHeads * each, each, attended.address);
    return parts;
  }

  /** Sets the fields of a part: some slots and query heads of a key head. */
  #slice(part: PartFields, head: number, slice: Slice, rows: TokenRows, layout: Layout, number: number): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    const { from, firstHead } = slice;
    const { rows: keys, raw } = rows.keys.get(slice.list.keys)!;
    const [keyRows, keyScales] = keys.blocks;
    const [valueRows, valueScales] = rows.values.blocks;
    const valueRow = head * rows.stride;
    const row = valueRow + from;
    const query = slice.rotation * queryHeads + head * group + firstHead;
    const coded = this.#compact && !raw;
    part.queries = (coded ? layout.codes : layout.queries) + query * headSize * (coded ? 2 : 4);
    part.factors = layout.factors + 4 * query;
    part.keys = keyRows.address + row * headSize * (this.#compact ? 1 : 4);
    part.keyScales = this.#compact ? keyScales.address + 4 * row : 0;
    part.values = valueRows.address + (this.#compact ? valueRow * headSize : 4 * row * headSize);
    part.valueScales = this.#compact ? valueScales.address + 4 * valueRow : 0;
    part.slot = from;
    part.count = slice.count;
    part.heads = slice.heads;
    part.firstHead = firstHead;
    placePart(part, layout, number, group, headSize, firstHead);
  }

  #placeLists(lists: HeadLists, layout: Layout, each: number, layer: LayerState, slots: TokenSlots): number[] {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    // Output, sum and maximum of a head in the last part of its key head.
    const place = (head: number) => {
      const part = emptyPart();
      placePart(part, layout, (Math.floor(head / group) + 1) * each - 1, group, headSize, head % group);
      return part;
    };
    return this.#found.place(
      lists,
      layer,
      slots,
      {
        query: (rotation, head) => layout.queries + 4 * (rotation * queryHeads + head) * headSize,
        output: (head) => place(head).outputs,
        sum: (head) => place(head).sums,
        maximum: (head) => place(head).maxima,
      },
      () => 1 / Math.sqrt(headSize), // queries have the temperature
      false,
    );
  }

  /** Says of all parts and query heads that they see nothing, which those that a part is for overwrite. */
  #clear({ sums, maxima }: Layout, count: number): void {
    const { memory } = this.#dense;
    memory.floats({ address: sums }, count).fill(0);
    memory.floats({ address: maxima }, count).fill(NOTHING);
  }

  /** The most slots of a stretch, so that threads end at about the same time. */
  #longest(width: number): number {
    const even = Math.ceil((width * this.#config.keyHeads) / (4 * this.#dense.threads));
    return Math.min(Math.max(Math.ceil(even / STRIDE) * STRIDE, SHORTEST_PART), LONGEST_PART);
  }

  /** Writes the queries [H, D] under each rotation of the plan, and last without rotation, as kernels read them. */
  #queries(
    { turns, temperature, rotations }: TokenPlan,
    projected: Float32Array,
    { queries, codes, factors }: Layout,
  ): void {
    const { queryHeads, headSize } = this.#config;
    const { functions, memory } = this.#dense;
    const size = queryHeads * headSize;
    const data = memory.floats({ address: queries }, (turns.length + 1) * size);
    const raw = projected.subarray(0, size);
    turns.forEach((by, i) => {
      if (!rotations[i].queries) return;
      turnRows(raw, data.subarray(i * size, (i + 1) * size), headSize, by, temperature);
      const [floats, code, factor] = [queries + 4 * i * size, codes + 2 * i * size, factors + 4 * i * queryHeads];
      if (this.#compact) functions.compactQueries(floats, code, factor, queryHeads, headSize);
    });
    turnRows(raw, data.subarray(turns.length * size), headSize, null, temperature);
  }
}

function stretchesOf({ lanes }: TokenPlan, longest: number): Stretch[] {
  return lanes.flatMap((lane) => {
    const parts: Stretch[] = [];
    for (let skipped = 0; skipped < lane.count; skipped += longest)
      parts.push({ lane, skipped, count: Math.min(longest, lane.count - skipped) });
    return parts;
  });
}
