import { bias, sight, tileOf, uniformTileOf, type Lane, type Tile } from "../../state/lanes.ts";
import type { AttentionPlan, Segment } from "../../method/plan.ts";
import { angles, rotation, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import type { TokenSlots } from "../../state/slots.ts";
import type { OwnLane } from "../choice/unions.ts";
import { rotationUses, type KeptKeys } from "../state/key-copies.ts";
import { planPort, type AttentionShape } from "./attention-graph.ts";
import { floats, integers, type Feeds } from "./runtime.ts";

/** Queries of a tile: few enough for their scores to stay in the processor's cache. */
export const TILE_ROWS = 128;

/** A plan made concrete for one chunk; all layers that have the plan share it. */
export interface PreparedChunk {
  readonly shape: AttentionShape;
  readonly key: string;
  /** The rotations that the cache keeps copies of keys under, each with its index in `shape.rotations`. */
  readonly keyRotations: readonly (readonly [number, Rotation])[];
  readonly tiles: readonly Tile[];
  /** Where the layer's buffers hold the tokens of lanes. */
  readonly slots: TokenSlots;
  readonly own?: readonly (readonly OwnLane[])[];
  /** The inputs that the plan's layers share, in a graph where the plan has this number. */
  feeds(plan: number): Feeds;
}

/** The angles of a chunk's tokens by `Rotation.id`, and masks of lanes, which plans of all layers share. */
export class ChunkAngles {
  readonly first: number;
  readonly count: number;
  readonly #masks = new Map<string, Feeds[string]>();
  readonly #made = new Map<string, { readonly cos: Feeds[string]; readonly sin: Feeds[string] }>();

  constructor(first: number, count: number) {
    this.first = first;
    this.count = count;
  }

  get tokens(): number[] {
    return Array.from({ length: this.count }, (_, t) => this.first + t);
  }

  of(by: Rotation): { readonly cos: Feeds[string]; readonly sin: Feeds[string] } {
    const known = this.#made.get(by.id);
    if (known) return known;
    const { cos, sin, pairs } = angles(by, this.tokens, this.count);
    const made = { cos: floats(cos, this.count, pairs), sin: floats(sin, this.count, pairs) };
    this.#made.set(by.id, made);
    return made;
  }

  /** The mask of a lane for some queries; layers whose lanes hold other tokens by list have masks of their own. */
  bias(lane: Lane, first: number, count: number): Feeds[string] {
    const make = () => floats(bias(lane, first, count), count, 1, lane.width);
    if (lane.tokens) return make();
    const { band, queries } = lane.segment;
    const key = [first, count, lane.token, lane.width, band.from, band.to, queries?.from, queries?.to].join(" ");
    const known = this.#masks.get(key) ?? make();
    this.#masks.set(key, known);
    return known;
  }
}

interface ChunkOptions extends KeptKeys {
  /** false when the chunk only writes the cache. */
  readonly attend: boolean;
  /** The softmax is joined with what each query and head has found in tokens of its own. */
  readonly found?: boolean;
  /** The sums of probabilities are asked for. */
  readonly masses?: boolean;
  /** The lanes of each tile that differ from key head to key head. */
  readonly own?: readonly (readonly OwnLane[])[];
}

/** Returns the queries of each tile of a chunk. */
export function tileRows(first: number, count: number): { readonly first: number; readonly count: number }[] {
  return Array.from({ length: Math.ceil(count / TILE_ROWS) }, (_, t) => ({
    first: first + t * TILE_ROWS,
    count: Math.min(TILE_ROWS, count - t * TILE_ROWS),
  }));
}

/** Prepares any plan: tiles of `TILE_ROWS` queries, with lanes cut where masks begin and end. */
export function prepareChunk(
  plan: AttentionPlan,
  slots: TokenSlots,
  chunk: ChunkAngles,
  options: ChunkOptions,
): PreparedChunk {
  const rows = options.attend ? tileRows(chunk.first, chunk.count) : [];
  const tiles = rows.map(({ first, count }) => tileOf(plan, slots, first, count, chunk.first));
  const seen = tiles.flatMap((tile, t) =>
    [...tile.lanes, ...(options.own?.[t] ?? [])].map((lane) => queryRotation(lane.segment)),
  );
  // The zeros of a tile that sees nothing are made from queries without rotation.
  if (tiles.some((tile) => tile.lanes.length === 0)) seen.push(UNROTATED);
  return assemble(plan, slots, tiles, seen, chunk, options);
}

/** Prepares a plan whose graph is the same for every chunk; null where a plan's lanes change from chunk to chunk. */
export function prepareUniformChunk(
  plan: AttentionPlan,
  slots: TokenSlots,
  chunk: ChunkAngles,
  rawKeys: boolean,
): PreparedChunk | null {
  if (plan.memory || plan.gated) return null; // such branches are computed between two layers
  const tile = uniformTileOf(plan, slots, chunk.first, chunk.count);
  if (!tile) return null;
  return assemble(plan, slots, [tile], plan.segments.map(queryRotation), chunk, { rawKeys });
}

function queryRotation({ table, queryPosition }: Segment): Rotation {
  return rotation(table, queryPosition);
}

function assemble(
  plan: AttentionPlan,
  slots: TokenSlots,
  tiles: readonly Tile[],
  seen: readonly Rotation[],
  chunk: ChunkAngles,
  options: Omit<ChunkOptions, "attend">,
): PreparedChunk {
  const ordered = rotationUses(plan, seen, options);
  // What was found, even if it is nothing, is seen by every query, so that none is left without a token.
  const found = options.found || (options.own !== undefined && tiles.some(({ blind }) => blind));
  const indexOf = new Map(ordered.map(({ rotation: { id } }, i) => [id, i] as const));
  const shape: AttentionShape = {
    rotations: ordered.map(({ queries, keys, rotation: { identity } }) => ({ queries, keys, identity })),
    tiles: tiles.map((tile, t) => ({
      lanes: tile.lanes.map((lane) => ({
        rotation: indexOf.get(queryRotation(lane.segment).id)!,
        masked: lane.masked,
      })),
      stretches: tile.stretches.map(({ lanes }) => lanes.to - lanes.from),
      blind: tile.blind && !found,
      own: options.own?.[t].map(({ segment, unions }) => ({
        rotation: indexOf.get(queryRotation(segment).id)!,
        masked: unions.some(({ mask }) => mask !== null),
      })),
    })),
    tempered: plan.temperature !== undefined,
    found: found || undefined,
    masses: options.masses || undefined,
  };
  const rotations = ordered.map((entry) => entry.rotation);
  const feeds = new Map<number, Feeds>();
  return {
    shape,
    key: JSON.stringify(shape),
    keyRotations: ordered.flatMap(({ keys, rotation: by }, i) => (keys ? [[i, by] as const] : [])),
    tiles,
    slots,
    own: options.own,
    feeds: (number) => {
      const made = feeds.get(number) ?? planFeeds(number, plan, shape, rotations, tiles, chunk);
      feeds.set(number, made);
      return made;
    },
  };
}

function planFeeds(
  number: number,
  plan: AttentionPlan,
  shape: AttentionShape,
  rotations: readonly Rotation[],
  tiles: readonly Tile[],
  chunk: ChunkAngles,
): Feeds {
  const feeds: Feeds = {};
  rotations.forEach((by, i) => {
    if (by.identity) return;
    const { cos, sin } = chunk.of(by);
    feeds[planPort.cos(number, i)] = cos;
    feeds[planPort.sin(number, i)] = sin;
  });
  if (plan.temperature)
    feeds[planPort.temperature(number)] = floats(
      Float32Array.from(chunk.tokens, (token) => plan.temperature!.at(token)),
      1,
      chunk.count,
      1,
    );
  if (tiles.length > 1)
    feeds[planPort.tileSizes(number)] = integers(
      tiles.map((tile) => tile.count),
      tiles.length,
    );
  tiles.forEach((tile, t) => {
    tile.lanes.forEach((lane, l) => {
      if (!lane.masked) return;
      feeds[planPort.bias(number, t, l)] = chunk.bias(lane, tile.first, tile.count);
    });
    if (shape.tiles[t].blind)
      feeds[planPort.sighted(number, t)] = floats(
        Float32Array.from(sight(tile.lanes, tile.first, tile.count), Number),
        tile.count,
        1,
        1,
      );
  });
  return feeds;
}
