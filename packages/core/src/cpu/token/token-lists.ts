import type { ModelConfig } from "../../model/config.ts";
import { seenTokens } from "../choice/found.ts";
import { ListTables, tableBytes } from "../choice/list-tables.ts";
import type { TokenSlots } from "../../state/slots.ts";
import type { LayerState } from "../state/layer-state.ts";
import { SharedScratch } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";
import type { SharedCache } from "./shared-cache.ts";
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

/** Writes the tables by which kernels attend to lists of one token; keys and values are read where kernels have them. */
export class TokenLists {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #cache: SharedCache;
  readonly #tables: SharedScratch;

  constructor(config: ModelConfig, dense: Dense, cache: SharedCache) {
    this.#config = config;
    this.#dense = dense;
    this.#cache = cache;
    this.#tables = new SharedScratch(dense.memory);
  }

  /** Returns the addresses of the units of all heads. `slots` says where tokens are; `scaleOf` is what a head's scores are multiplied by. */
  place(
    { segments, lists }: HeadLists,
    { slots: own, copies, values }: LayerState,
    slots: TokenSlots,
    places: UnitPlaces,
    scaleOf: (head: number) => number,
    cosine: boolean,
  ): number[] {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { memory } = this.#dense;
    const group = queryHeads / keyHeads;
    const entries = lists.reduce((sum, list) => sum + list.length, 0);
    const [valueRows, valueScales] = this.#cache.rows(own, values, "values").blocks;
    const keysOf = segments.map(({ keys }) => this.#cache.rows(own, copies.get(keys)!.buffer, "keys").blocks);
    const address = this.#tables.take(tableBytes(queryHeads, lists.length, entries));
    const tables = new ListTables(memory, address, queryHeads, lists.length, entries);
    const rowBytes = headSize * (this.#cache.compact ? 1 : 4);
    const slotOf = (token: number) => slots.slotOf(token);
    return Array.from({ length: queryHeads }, (_, head) => {
      const first = Math.floor(head / group) * values.stride; // of the key head's rows
      const unit = tables.unit(places.output(head), places.sum(head), places.maximum(head));
      segments.forEach(({ rotation }, s) => {
        const tokens = lists[head * segments.length + s];
        if (tokens.length === 0) return;
        const [keyRows, keyScales] = keysOf[s];
        tables.run(tokens, slotOf, {
          query: places.query(rotation, head),
          angles: 0,
          keys: keyRows.address + first * rowBytes,
          values: valueRows.address + first * rowBytes,
          keyScales: keyScales ? keyScales.address + 4 * first : 0,
          valueScales: valueScales ? valueScales.address + 4 * first : 0,
          scale: scaleOf(head),
          cosine,
        });
      });
      return unit;
    });
  }
}
