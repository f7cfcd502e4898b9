import {
  ChosenRows,
  intersect,
  type ChosenTokens,
  type FrequencyTable,
  type Interval,
  type Segment,
} from "../../method/plan.ts";
import { constantPosition, rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import { anglesOf } from "../attention/angle-tables.ts";
import type { AttentionShape } from "../attention/attention-shape.ts";
import { finite, placeOf, type Rotations } from "../attention/work-tables.ts";

/** Stands behind the last entry of a list that is shorter than its room, and in place of a run's turn where it has none. */
export const NONE = 0xffffffff;

/** Where lists lie among others: [answers, heads, entries]. */
export interface RunList {
  /** The rows of the chunk that have lists. */
  readonly rows: Interval;
  /** The lists of a row: one for all heads, one for each key head, or one for each query head. */
  readonly heads: number;
  /** The rows that have lists of their own; 1 where all rows share them. */
  readonly answers: number;
  /** The index of the first entry of the first list. */
  readonly at: number;
}

/** Runs [from, to), whose lists are in one buffer. */
export interface SparseWork {
  readonly from: number;
  readonly to: number;
  /** Whether a hook gave the lists; else the device has chosen them. */
  readonly given: boolean;
  /** The most keys that a row sees through these runs. */
  readonly keys: number;
}

interface Chunk {
  readonly slots: SlotMap;
  readonly first: number;
  readonly count: number;
  readonly shape: AttentionShape;
  readonly places: ReadonlyMap<string, number>;
}

/** Some entries of lists: entry b of a list stands for tokens [begin + b · size, begin + (b + 1) · size). */
interface Listed {
  readonly list: RunList;
  /** The room of a list. */
  readonly entries: number;
  readonly begin: number;
  readonly size: number;
  readonly ranks: { from: number; to: number };
}

interface Run extends Listed {
  readonly segment: Segment;
  /** The rows of the chunk that see the run. */
  readonly seeing: Interval;
  readonly turn: Turn;
  /** Whether each rank has a turn of its own, in the rows behind that of the first rank. */
  turnsByRank: boolean;
}

/** How a query is turned: a rotation that the chunk's queries are kept under, and a further turn by a row of angles. */
interface Turn {
  readonly rotation: number;
  /** The index of the row of angles; null where the rotation is all. */
  readonly row: number | null;
}

/** A rotation that queries are kept under, with the positions of the rows that use it. */
interface Base {
  readonly index: number;
  readonly id: string;
  readonly table: FrequencyTable;
  readonly positions: readonly number[];
  readonly seeing: Interval;
}

/**
 * Segments with lists of tokens by row and head as runs that the kernel of sparse attention goes over. A run is some ranks
 * of the entries of a list under one rotation of the keys. Segments whose queries are a constant distance apart (blocks at
 * consecutive positions) share one rotation of the queries, which the kernel turns further; so a plan may have a segment
 * for each rank, whatever their number.
 */
export class RunTables {
  readonly #chunk: Chunk;
  readonly #queries: Rotations;
  readonly #chosen: ReadonlyMap<string, RunList>;
  readonly #runs: Run[] = [];
  readonly #bases: Base[] = [];
  readonly #turns: { readonly table: FrequencyTable; readonly distance: number }[] = [];
  /** Lists that a hook gave, [answers, heads, entries] one behind the other. */
  readonly lists: number[] = [];

  constructor(chunk: Chunk, queries: Rotations, chosen: ReadonlyMap<string, RunList>) {
    this.#chunk = chunk;
    this.#queries = queries;
    this.#chosen = chosen;
  }

  /** Adds the runs of some segments; without `turns` every rotation of the queries is kept whole. */
  add(segments: readonly Segment[], turns = true): SparseWork[] {
    const works: SparseWork[] = [];
    for (const given of [false, true]) {
      const from = this.#runs.length;
      for (const segment of segments)
        if (segment.tokens instanceof ChosenRows === given) this.#add(segment, turns, from);
      const own = this.#runs.slice(from);
      const keys = own.reduce((sum, { ranks, size }) => sum + (ranks.to - ranks.from) * size, 0);
      if (own.length > 0) works.push({ from, to: this.#runs.length, given, keys });
    }
    return works;
  }

  #add(segment: Segment, turns: boolean, from: number): void {
    const { first, count } = this.#chunk;
    const { tokens, queries = { from: -Infinity, to: Infinity } } = segment;
    if (!(tokens instanceof ChosenRows) && !("choice" in tokens))
      throw new Error("A gated branch sees tokens that queries choose for themselves; this segment has other tokens.");
    const listed = tokens instanceof ChosenRows ? this.#given(tokens) : this.#ofChoice(tokens);
    const asking = { from: queries.from - first, to: queries.to - first };
    const seeing = intersect(intersect(asking, listed.list.rows), { from: 0, to: count });
    if (seeing.from >= seeing.to || listed.ranks.from >= listed.ranks.to) return;
    const turn = this.#turnOf(segment, seeing, turns);
    const run: Run = { segment, seeing, ...listed, turn, turnsByRank: false };
    const last = this.#runs.length > from ? this.#runs[this.#runs.length - 1] : undefined;
    if (!last || !continues(last, run)) {
      this.#runs.push(run);
      return;
    }
    last.ranks.to = run.ranks.to;
    last.turnsByRank = turn.row !== null;
  }

  #ofChoice({ choice, ranks }: ChosenTokens): Listed {
    const list = this.#chosen.get(choice.id);
    if (!list) throw new Error("A choice that all queries and heads share is no list by row.");
    const { count: entries, from: begin, size } = choice;
    return { list, entries, begin, size, ranks: { from: ranks.from, to: Math.min(ranks.to, entries) } };
  }

  /** The rotation of a segment's queries: one that is kept already and a turn, where the distance is constant. */
  #turnOf({ table, queryPosition }: Segment, seeing: Interval, turns: boolean): Turn {
    const by = rotation(table, queryPosition);
    const known = this.#bases.find(({ id }) => id === by.id);
    if (known) return { rotation: known.index, row: null };
    const positions = Array.from({ length: seeing.to - seeing.from }, (_, i) =>
      queryPosition.at(this.#chunk.first + seeing.from + i),
    );
    if (turns)
      for (const base of this.#bases) {
        if (base.table.id !== table.id || base.seeing.from > seeing.from || base.seeing.to < seeing.to) continue;
        const distanceAt = (i: number) => positions[i] - base.positions[seeing.from - base.seeing.from + i];
        if (!positions.every((_, i) => distanceAt(i) === distanceAt(0))) continue;
        return { rotation: base.index, row: this.#turns.push({ table, distance: distanceAt(0) }) - 1 };
      }
    const index = this.#queries.indexOf(by);
    this.#bases.push({ index, id: by.id, table, positions, seeing });
    return { rotation: index, row: null };
  }

  /** Takes over the lists of a hook; tokens that the ring no longer holds are left out. */
  #given(rows: ChosenRows): Listed {
    const { first, count, slots } = this.#chunk;
    const own = { from: Math.max(0, rows.first - first), to: Math.min(count, rows.first + rows.count - first) };
    const listOf = (row: number, head: number) => rows.list(first + row - rows.first, head);
    const heads = Array.from({ length: rows.heads }, (_, head) => head);
    const all = Array.from({ length: Math.max(0, own.to - own.from) }, (_, i) => own.from + i);
    const shared = all.every((row) => heads.every((head) => listOf(row, head) === listOf(own.from, head)));
    const answers = shared ? all.slice(0, 1) : all;
    const lists = answers.flatMap((row) =>
      heads.map((head) => listOf(row, head).filter((token) => slots.holds(token))),
    );
    const entries = Math.max(0, ...lists.map(({ length }) => length));
    const at = this.lists.length;
    for (const list of lists) for (let i = 0; i < entries; i++) this.lists.push(i < list.length ? list[i] : NONE);
    const list = { rows: own, heads: rows.heads, answers: answers.length, at };
    return { list, entries, begin: 0, size: 1, ranks: { from: 0, to: entries } };
  }

  /** The runs as words, in the order of `RUN_STRUCT`. */
  get words(): number[] {
    return this.#runs.flatMap((run) => {
      const { segment, list, seeing, entries, begin, size, ranks, turn, turnsByRank } = run;
      const { table, keyPosition, band } = segment;
      return [
        list.at,
        list.heads,
        entries,
        list.answers,
        list.rows.from,
        seeing.from,
        seeing.to,
        begin,
        size,
        ranks.from,
        ranks.to,
        placeOf(this.#chunk.places, rotation(table, keyPosition)),
        turn.rotation,
        turn.row ?? NONE,
        turnsByRank ? 1 : 0,
        finite(band.from),
        finite(band.to),
      ];
    });
  }

  /** (cos, sin) of each pair of each turn, [turns, d/2, 2]; the amplitude is a part of the rotation that is turned. */
  get turns(): Float32Array {
    const { pairs } = this.#chunk.shape;
    const all = new Float32Array(2 * pairs * this.#turns.length);
    this.#turns.forEach(({ table, distance }, i) => {
      const by = rotation({ ...table, amplitude: 1 }, constantPosition(distance));
      all.set(anglesOf([by], [0], pairs), 2 * pairs * i);
    });
    return all;
  }
}

/** The words of a run; `turn` is the row of angles of the first rank, and rank r has row turn + r · turnStep. */
export const RUN_STRUCT = `struct Run {
  list: u32, lists: u32, entries: u32, answers: u32, firstRow: u32, seeingFrom: u32, seeingTo: u32, begin: u32, size: u32,
  rankFrom: u32, rankTo: u32, place: u32, rotation: u32, turn: u32, turnStep: u32, bandFrom: i32, bandTo: i32,
}`;

/** Returns whether a run goes on with the next ranks of the run before it. */
function continues(before: Run, run: Run): boolean {
  const { segment, list, seeing, ranks, turn } = run;
  const widths = [before, run].map(({ ranks: { from, to } }) => to - from);
  const byRank = (before.turnsByRank || widths[0] === 1) && widths[1] === 1;
  const turned =
    turn.row === null || before.turn.row === null
      ? turn.row === before.turn.row
      : byRank && turn.row === before.turn.row + widths[0];
  return (
    turned &&
    before.turn.rotation === turn.rotation &&
    before.list === list &&
    before.ranks.to === ranks.from &&
    before.seeing.from === seeing.from &&
    before.seeing.to === seeing.to &&
    before.segment.band.from === segment.band.from &&
    before.segment.band.to === segment.band.to &&
    rotation(before.segment.table, before.segment.keyPosition).id === rotation(segment.table, segment.keyPosition).id
  );
}
