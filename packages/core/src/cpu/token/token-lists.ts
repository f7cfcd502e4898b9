import type { ModelConfig } from "../../model/config.ts";
import { seenTokens } from "../choice/found.ts";
import { ListTables, tableBytes } from "../choice/list-tables.ts";
import type { CacheBuffer } from "../state/cache-buffer.ts";
import type { LayerState } from "../state/layer-state.ts";
import { SharedScratch } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";
import type { TokenList } from "./token-plan.ts";

/** The lists of tokens that the heads of one token see. */
export interface HeadLists {
  readonly segments: readonly TokenList[];
  /** [H, segments] */
  readonly lists: readonly Int32Array[];
  /** The most tokens of a head. */
  readonly longest: number;
}

/** Where the query of a rotation and head lies, and where its output, sum and maximum go. */
export interface UnitPlaces {
  query(rotation: number, head: number): number;
  output(head: number): number;
  sum(head: number): number;
  maximum(head: number): number;
}

/** Returns what each head of the query at text index `token` sees through segments. */
export function headLists(segments: readonly TokenList[], token: number, queryHeads: number): HeadLists {
  const lists: Int32Array[] = [];
  let longest = 0;
  for (let head = 0; head < queryHeads; head++) {
    let size = 0;
    for (const { segment } of segments) {
      const list = seenTokens(segment, token, head, queryHeads);
      lists.push(list);
      size += list.length;
    }
    longest = Math.max(longest, size);
  }
  return { segments, lists, longest };
}

/**
 * Writes the tables by which kernels attend to lists of one token. Keys and values are read where they lie in shared
 * memory; where kernels have them in 8 bits, the listed rows are copied there as floats.
 */
export class TokenLists {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #compact: boolean;
  readonly #tables: SharedScratch;
  readonly #rows: SharedScratch;

  constructor(config: ModelConfig, dense: Dense, compact: boolean) {
    this.#config = config;
    this.#dense = dense;
    this.#compact = compact;
    this.#tables = new SharedScratch(dense.memory);
    this.#rows = new SharedScratch(dense.memory);
  }

  /** Returns the addresses of the units of all heads; `scaleOf` is what a head's scores are multiplied by. */
  place(
    { segments, lists }: HeadLists,
    { slots, copies, values }: LayerState,
    places: UnitPlaces,
    scaleOf: (head: number) => number,
    cosine: boolean,
  ): number[] {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { memory } = this.#dense;
    const group = queryHeads / keyHeads;
    const entries = lists.reduce((sum, list) => sum + list.length, 0);
    const address = this.#tables.take(tableBytes(queryHeads, lists.length, entries));
    const rowBytes = 4 * headSize;
    const staged = this.#compact ? this.#rows.take(2 * entries * rowBytes) : 0;
    const tables = new ListTables(memory, address, queryHeads, lists.length, entries);
    const shared = (buffer: CacheBuffer, keyHead: number) => {
      buffer.share(memory, slots.length);
      return buffer.shared!.blocks[0].address + keyHead * buffer.stride * rowBytes;
    };
    let done = 0; // rows that were copied
    return Array.from({ length: queryHeads }, (_, head) => {
      const keyHead = Math.floor(head / group);
      const unit = tables.unit(places.output(head), places.sum(head), places.maximum(head));
      segments.forEach(({ rotation, keys: id }, s) => {
        const tokens = lists[head * segments.length + s];
        if (tokens.length === 0) return;
        const keys = copies.get(id)!.buffer;
        const run = { query: places.query(rotation, head), angles: 0, scale: scaleOf(head), cosine };
        if (!this.#compact) {
          const rows = { keys: shared(keys, keyHead), values: shared(values, keyHead) };
          tables.run(tokens, (token) => slots.slotOf(token), { ...run, ...rows });
          return;
        }
        const listed = tokens.map((token) => slots.slotOf(token));
        const rows = [keys, values].map((buffer, i) => {
          const to = staged + (i * entries + done) * rowBytes;
          buffer.gather(keyHead, listed, memory.floats({ address: to }, tokens.length * headSize));
          return to;
        });
        done += tokens.length;
        // A copy of the list is another one for the tables, as its rows are others in each key head.
        let next = 0;
        tables.run(listed, () => next++, { ...run, keys: rows[0], values: rows[1] });
      });
      return unit;
    });
  }
}
