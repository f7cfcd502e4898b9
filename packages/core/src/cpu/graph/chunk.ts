import { bias, sight, tileOf, uniformTileOf, type Lane, type Tile } from "../../state/lanes.ts";
import type { AttentionPlan } from "../../method/plan.ts";
import { angles, rotation, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import { rotationUses } from "../state/key-copies.ts";
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
  /** The inputs that the plan's layers share, in a graph where the plan has this number. */
  feeds(plan: number): Feeds;
}

interface ChunkOptions {
  /** The cache keeps keys without rotation too. */
  readonly rawKeys: boolean;
  /** false when the chunk only writes the cache. */
  readonly attend: boolean;
}

/** Prepares any plan: tiles of `TILE_ROWS` queries, with lanes cut where masks begin and end. */
export function prepareChunk(
  plan: AttentionPlan,
  slots: SlotMap,
  first: number,
  count: number,
  options: ChunkOptions,
): PreparedChunk {
  const tiles: Tile[] = [];
  for (let row = 0; row < count && options.attend; row += TILE_ROWS) {
    tiles.push(tileOf(plan, slots, first + row, Math.min(TILE_ROWS, count - row), first));
  }
  const seen = tiles.flatMap((tile) => tile.lanes.map((lane) => queryRotation(lane.segment)));
  // The zeros of a tile that sees nothing are made from queries without rotation.
  if (tiles.some((tile) => tile.lanes.length === 0)) seen.push(UNROTATED);
  return assemble(plan, tiles, seen, first, count, options.rawKeys);
}

/** Prepares a plan whose graph is the same for every chunk; null where a plan's lanes change from chunk to chunk. */
export function prepareUniformChunk(
  plan: AttentionPlan,
  slots: SlotMap,
  first: number,
  count: number,
  rawKeys: boolean,
): PreparedChunk | null {
  const tile = uniformTileOf(plan, slots, first, count);
  if (!tile) return null;
  return assemble(plan, [tile], plan.segments.map(queryRotation), first, count, rawKeys);
}

function queryRotation({ table, queryPosition }: Lane["segment"]): Rotation {
  return rotation(table, queryPosition);
}

function assemble(
  plan: AttentionPlan,
  tiles: readonly Tile[],
  seen: readonly Rotation[],
  first: number,
  count: number,
  rawKeys: boolean,
): PreparedChunk {
  const ordered = rotationUses(plan, seen, rawKeys);
  const indexOf = new Map(ordered.map(({ rotation: { id } }, i) => [id, i] as const));
  const shape: AttentionShape = {
    rotations: ordered.map(({ queries, keys, rotation: { identity } }) => ({ queries, keys, identity })),
    tiles: tiles.map((tile) => ({
      lanes: tile.lanes.map((lane) => ({
        rotation: indexOf.get(queryRotation(lane.segment).id)!,
        masked: lane.masked,
      })),
      stretches: tile.stretches.map(({ lanes }) => lanes.to - lanes.from),
      blind: tile.blind,
    })),
    tempered: plan.temperature !== undefined,
  };
  const rotations = ordered.map((entry) => entry.rotation);
  return {
    shape,
    key: JSON.stringify(shape),
    keyRotations: ordered.flatMap(({ keys, rotation: by }, i) => (keys ? [[i, by] as const] : [])),
    tiles,
    feeds: (number) => planFeeds(number, plan, rotations, tiles, first, count),
  };
}

function planFeeds(
  number: number,
  plan: AttentionPlan,
  rotations: readonly Rotation[],
  tiles: readonly Tile[],
  first: number,
  count: number,
): Feeds {
  const tokens = Array.from({ length: count }, (_, t) => first + t);
  const feeds: Feeds = {};
  rotations.forEach((by, i) => {
    if (by.identity) return;
    const { cos, sin } = angles(by, tokens, count);
    feeds[planPort.cos(number, i)] = floats(cos, count, by.table.inverse.length);
    feeds[planPort.sin(number, i)] = floats(sin, count, by.table.inverse.length);
  });
  if (plan.temperature)
    feeds[planPort.temperature(number)] = floats(
      Float32Array.from(tokens, (token) => plan.temperature!.at(token)),
      1,
      count,
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
      feeds[planPort.bias(number, t, l)] = floats(bias(lane, tile.first, tile.count), tile.count, 1, lane.width);
    });
    if (tile.blind)
      feeds[planPort.sighted(number, t)] = floats(
        Float32Array.from(sight(tile.lanes, tile.first, tile.count), Number),
        tile.count,
        1,
        1,
      );
  });
  return feeds;
}
