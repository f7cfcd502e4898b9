import {
  ChosenRows,
  intersect,
  isShared,
  type AttentionPlan,
  type Choice,
  type ChosenTokens,
  type Segment,
  type Interval,
} from "../../method/plan.ts";
import { tileOf, type Lane } from "../../state/lanes.ts";
import type { SlotMap } from "../../state/slots.ts";

/** The part of the lists that the device fills in: from entry `at` on, the tokens of the blocks that a choice takes. */
export interface ChosenList {
  readonly choice: Choice;
  readonly at: number;
}

/** A chunk's queries from text index `first` on, under a plan. */
interface Chunk {
  readonly plan: AttentionPlan;
  readonly slots: SlotMap;
  readonly first: number;
}

/** A lane as kernels find its keys: consecutive slots from `begin` on, or entries of the lists from there on. */
export interface PlacedLane {
  readonly segment: Segment;
  readonly begin: number;
  readonly listed: boolean;
  /** The token of the first slot; lists have tokens of their own. */
  readonly token: number;
  readonly width: number;
}

/** What some rows of a chunk see, with the lists that this takes: slots and tokens of lanes that have no consecutive ones. */
export class SeenLanes {
  readonly #chunk: Chunk;
  /** The plan without segments whose tokens are still to be chosen, and without those that queries choose for themselves. */
  readonly #known: AttentionPlan;
  readonly #choosing: readonly Segment[];
  readonly #entries: number[] = [];
  readonly #chosen = new Map<string, ChosenList>();

  constructor(chunk: Chunk) {
    const { plan } = chunk;
    this.#chunk = chunk;
    const dense = plan.segments.filter((segment) => !isSparse(segment));
    this.#choosing = dense.filter(({ tokens }) => "choice" in tokens);
    const known = dense.filter((segment) => !this.#choosing.includes(segment));
    this.#known = known.length === plan.segments.length ? plan : { ...plan, segments: known };
  }

  lanes(row: number, rows: number): PlacedLane[] {
    const first = this.#chunk.first + row;
    // Keys are written before they are read, so a list may name the chunk's own tokens.
    const known = tileOf(this.#known, this.#chunk.slots, first, rows, Infinity).lanes.map((lane) => this.#placed(lane));
    const asked = { from: first, to: first + rows };
    return [
      ...known,
      ...this.#choosing.flatMap((segment) => (asks(segment, asked) ? (this.#toBeChosen(segment) ?? []) : [])),
    ];
  }

  #placed({ segment, slots, tokens, token, width }: Lane): PlacedLane {
    if (!(slots instanceof Int32Array)) return { segment, begin: slots.from, listed: false, token, width };
    const begin = this.#entries.length / 2;
    for (let i = 0; i < slots.length; i++) this.#entries.push(slots[i], tokens?.[i] ?? token + i);
    return { segment, begin, listed: true, token, width };
  }

  /** A lane over a part of the list that the device fills in when it has chosen. */
  #toBeChosen(segment: Segment): PlacedLane | null {
    const { choice, ranks } = segment.tokens as ChosenTokens;
    const { from, to } = intersect(ranks, { from: 0, to: choice.count });
    if (from >= to) return null;
    let list = this.#chosen.get(choice.id);
    if (!list) {
      list = { choice, at: this.#entries.length / 2 };
      this.#chosen.set(choice.id, list);
      for (let i = 0; i < 2 * choice.count * choice.size; i++) this.#entries.push(0);
    }
    const width = (to - from) * choice.size;
    return { segment, begin: list.at + from * choice.size, listed: true, token: 0, width };
  }

  get lists(): { readonly lists: readonly number[]; readonly chosen: readonly ChosenList[] } {
    return { lists: this.#entries, chosen: [...this.#chosen.values()] };
  }
}

function asks({ queries = EVERY_QUERY }: Segment, rows: Interval): boolean {
  return Math.max(queries.from, rows.from) < Math.min(queries.to, rows.to);
}

const EVERY_QUERY: Interval = { from: -Infinity, to: Infinity };

/**
 * Returns whether each query, or each of several heads, has tokens of its own in a segment: such lists are no lanes, and
 * the kernels of the room `sparse` read them.
 */
export function isSparse({ tokens }: Segment): boolean {
  return tokens instanceof ChosenRows || ("choice" in tokens && !isShared(tokens.choice));
}

/**
 * Returns whether a choice scores the keys of single tokens, from the copy of the keys under its rotation, and not what is
 * made of raw keys.
 */
export function scoresTokens(choice: Choice): boolean {
  return choice.size === 1 && (!isShared(choice) || choice.keyPosition.id !== "0" || choice.scales !== undefined);
}

/** Is there a block that a query would see in part only, if it were chosen? Then kernels have to look at the tokens of lists. */
export function masksChosen({ segments }: AttentionPlan, first: number, count: number): boolean {
  return segments.some(({ tokens, band, queries = EVERY_QUERY }) => {
    if (!("choice" in tokens) || !isShared(tokens.choice)) return false;
    const { from, size, candidates } = tokens.choice;
    const asking = intersect(queries, { from: first, to: first + count });
    return asking.from - (from + size * candidates - 1) < band.from || asking.to - 1 - from >= band.to;
  });
}
