import type { AttentionPlan, Segment } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { rotation } from "../../positions/rotation.ts";
import type { TokenSlots } from "../../state/slots.ts";
import type { CacheBuffer } from "../state/cache-buffer.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { SharedScratch, type KernelThreads } from "../wasm/kernel-threads.ts";
import type { AskingChunk } from "./asking.ts";
import { seenTokens } from "./found.ts";
import { ListAngles } from "./list-angles.ts";
import { ListTables, tableBytes } from "./list-tables.ts";

/** Numbers of `Lists` in kernels/src/lists.ts. */
const JOB_NUMBERS = 7;
/** Units of a part, at least: fewer cost more in handing over than they save. */
const SMALLEST_PART = 8;
const PARTS_A_THREAD = 8;
/** Rows of scores are filled up to a multiple of so many floats, since the softmax takes four vectors of four at a time. */
const STRIDE = 16;
/** The logarithm that stands for no sum at all: above the mask of hidden tokens, so that it outweighs them. */
const NO_LOGIT = -1e29;

/** What each query and head has found, of each key head. */
export interface Found {
  /** [T, H/K, D]; zeros where nothing was found. */
  readonly output: Float32Array;
  /** [T, H/K], the logarithms of the sums of exponentials. */
  readonly logits: Float32Array;
}

/** Returns what so many queries and heads have found where there is nothing. */
export function nothingFound(count: number, headSize: number): Found {
  return { output: new Float32Array(count * headSize), logits: new Float32Array(count).fill(NO_LOGIT) };
}

/** What logits are multiplied by: the temperature and 1/√D, or a factor for each query head where they are cosines. */
export interface Scaling {
  readonly temperature?: AttentionPlan["temperature"];
  readonly cosines?: ArrayLike<number>;
}

/** A layer, and where its buffers hold the tokens that its plan shows. */
export interface ReadLayer {
  readonly state: CpuState;
  readonly layer: number;
  readonly slots: TokenSlots;
}

/** The keys of the segments' rotations, and the values of a layer. */
interface LayerRows {
  readonly slots: TokenSlots;
  readonly values: CacheBuffer;
  /** The keys that each segment reads. */
  readonly keys: readonly CacheBuffer[];
}

/** Where the rows of one key head lie in the kernels' memory: keys of each segment, and values. */
interface StagedRows {
  readonly keys: readonly number[];
  readonly values: number;
  slotOf(token: number): number;
}

/**
 * Attention of a chunk over lists of tokens, a list for each query and head, in one softmax of its own. Keys and values are
 * copied to the kernels' memory a key head at a time: the stretch of the ring that lists are from, or the listed rows alone
 * where they are few.
 */
export class ListAttention {
  readonly #config: ModelConfig;
  readonly #threads: KernelThreads;
  readonly #angles: ListAngles;
  readonly #fixed: SharedScratch;
  readonly #tables: SharedScratch;
  readonly #rows: SharedScratch;

  constructor(config: ModelConfig, threads: KernelThreads) {
    this.#config = config;
    this.#threads = threads;
    this.#angles = new ListAngles(threads.memory, config.rope.rotarySize / 2);
    this.#fixed = new SharedScratch(threads.memory);
    this.#tables = new SharedScratch(threads.memory);
    this.#rows = new SharedScratch(threads.memory);
  }

  /** Attends to what segments show, for each key head; the chunk's keys and values are in the cache. */
  attend(
    segments: readonly Segment[],
    { state, layer, slots }: ReadLayer,
    chunk: AskingChunk,
    scaling: Scaling,
  ): Found[] {
    const { queryHeads, keyHeads } = this.#config;
    const { values, copies } = state.layers[layer];
    const keys = segments.map(({ table, keyPosition }) => copies.get(rotation(table, keyPosition).id)!.buffer);
    this.#angles.begin(chunk.first, chunk.count);
    const group = queryHeads / keyHeads;
    return Array.from({ length: keyHeads }, (_, head) => {
      const lists: Int32Array[] = [];
      for (let row = 0; row < chunk.count; row++)
        for (let i = 0; i < group; i++)
          for (const segment of segments)
            lists.push(seenTokens(segment, chunk.first + row, head * group + i, queryHeads));
      return this.#attendHead(segments, head, lists, { slots, values, keys }, chunk, scaling);
    });
  }

  /** `lists` are [T, H/K, segments]. */
  #attendHead(
    segments: readonly Segment[],
    head: number,
    lists: readonly Int32Array[],
    rows: LayerRows,
    { first, count, projected }: AskingChunk,
    { temperature, cosines }: Scaling,
  ): Found {
    const { queryHeads, keyHeads, headSize: D } = this.#config;
    const { memory, functions, threads } = this.#threads;
    const group = queryHeads / keyHeads;
    const units = count * group;
    const stride = (queryHeads + 2 * keyHeads) * D;
    let [runs, entries, longest] = [0, 0, 0];
    for (let unit = 0, at = 0; unit < units; unit++) {
      let size = 0;
      for (let s = 0; s < segments.length; s++, at++) {
        if (lists[at].length === 0) continue;
        runs++;
        size += lists[at].length;
      }
      entries += size;
      longest = Math.max(longest, size);
    }
    const staged = this.#stage(head, lists, entries, rows);
    const angles = segments.map(({ table, queryPosition }) => this.#angles.of(rotation(table, queryPosition)));
    const each = Math.max(SMALLEST_PART, Math.ceil(units / (PARTS_A_THREAD * threads)));
    const parts = Math.ceil(units / each);
    const scores = Math.ceil((longest + 4) / STRIDE) * STRIDE;
    const scratch = scores + Math.ceil(D / 4) * 4;
    // Queries, outputs, sums and maxima, the scratch of parts and the job come one after another.
    const floats = [units * D, units * D, units, units, parts * scratch, JOB_NUMBERS].map(
      (size) => Math.ceil(size / 4) * 4,
    );
    const base = this.#fixed.take(4 * floats.reduce((sum, size) => sum + size, 0));
    const places = floats.map((_, i) => base + 4 * floats.slice(0, i).reduce((sum, size) => sum + size, 0));
    const [queries, outputs, sums, maxima, partScratch, job] = places;
    const data = memory.floats({ address: queries }, units * D);
    for (let row = 0; row < count; row++) {
      const from = row * stride + head * group * D;
      data.set(projected.subarray(from, from + group * D), row * group * D);
    }
    const address = this.#tables.take(tableBytes(units, runs, entries));
    const tables = new ListTables(memory, address, units, runs, entries);
    for (let unit = 0, at = 0; unit < units; unit++) {
      const row = Math.floor(unit / group);
      const scale = cosines
        ? cosines[head * group + (unit % group)]
        : (temperature?.at(first + row) ?? 1) / Math.sqrt(D);
      tables.unit(outputs + 4 * unit * D, sums + 4 * unit, maxima + 4 * unit);
      for (let s = 0; s < segments.length; s++, at++) {
        if (lists[at].length === 0) continue;
        tables.run(lists[at], staged.slotOf, {
          query: queries + 4 * unit * D,
          angles: angles[s] && angles[s] + row * this.#angles.rowBytes,
          keys: staged.keys[s],
          values: staged.values,
          keyScales: 0,
          valueScales: 0,
          scale,
          cosine: cosines !== undefined,
        });
      }
    }
    const numbers = new Int32Array(memory.memory.buffer, job, JOB_NUMBERS);
    numbers.set([address, units, each, partScratch, scores, D, this.#config.rope.rotarySize / 2]);
    functions.attendLists(job, parts);
    const [sum, maximum] = [sums, maxima].map((from) => memory.floats({ address: from }, units));
    return {
      output: memory.floats({ address: outputs }, units * D).slice(),
      logits: sum.map((value, i) => (value > 0 ? maximum[i] + Math.log(value) : NO_LOGIT)).slice(),
    };
  }

  #stage(head: number, lists: readonly Int32Array[], entries: number, { slots, keys, values }: LayerRows): StagedRows {
    const { headSize } = this.#config;
    const { memory } = this.#threads;
    let [from, to] = [Infinity, 0];
    for (const list of lists)
      for (let i = 0; i < list.length; i++) {
        const slot = slots.slotOf(list[i]);
        if (slot < from) from = slot;
        if (slot >= to) to = slot + 1;
      }
    const buffers = [...new Set([values, ...keys])];
    const listed = entries < (to - from) / 2 ? [...new Set(lists.flatMap((list) => Array.from(list)))] : null;
    const places = listed?.map((token) => slots.slotOf(token));
    const rows = entries === 0 ? 0 : (listed?.length ?? to - from);
    const base = this.#rows.take(4 * buffers.length * rows * headSize);
    const addresses = new Map(
      buffers.map((buffer, i) => {
        const address = base + 4 * i * rows * headSize;
        const data = memory.floats({ address }, rows * headSize);
        if (!listed) data.set(buffer.read(head, Math.min(from, to), to));
        else buffer.gather(head, places!, data);
        return [buffer, address] as const;
      }),
    );
    const placeOf = listed && new Map(listed.map((token, row) => [token, row] as const));
    return {
      keys: keys.map((buffer) => addresses.get(buffer)!),
      values: addresses.get(values)!,
      slotOf: placeOf ? (token) => placeOf.get(token)! : (token) => slots.slotOf(token) - from,
    };
  }
}
