import { bias, tileOf, type Lane, type Tile } from "../lanes.ts";
import { constantPosition, type AttentionPlan } from "../plan.ts";
import type { SlotMap } from "../slots.ts";
import type { AttentionShape } from "./attention-graph.ts";
import { port } from "./attention-graph.ts";
import { angles, rotation, type Rotation } from "./rotation.ts";
import { floats, integers, type Feeds } from "./runtime.ts";

/** Rows of queries that share their scores' place in the processor's cache. */
const TILE_ROWS = 128;

/** A plan for one chunk, ready for every layer that has it. */
export interface PreparedChunk {
  readonly shape: AttentionShape;
  readonly key: string;
  /** Rotations that keys are kept under, by index in `shape.rotations`. */
  readonly keyRotations: readonly (readonly [number, Rotation])[];
  /** Inputs that are the same in every layer. */
  readonly feeds: Feeds;
  readonly tiles: readonly Tile[];
}

/** @param attend false when only the cache has to be written */
export function prepareChunk(plan: AttentionPlan, slots: SlotMap, first: number, count: number, options: { readonly rawKeys: boolean; readonly attend: boolean }): PreparedChunk {
  const tiles: Tile[] = [];
  for (let row = 0; row < count && options.attend; row += TILE_ROWS) tiles.push(tileOf(plan, slots, first + row, Math.min(TILE_ROWS, count - row)));

  const rotations = new Map<string, { rotation: Rotation; queries: boolean; keys: boolean }>();
  const use = (by: Rotation, what: "queries" | "keys") => {
    const known = rotations.get(by.id) ?? { rotation: by, queries: false, keys: false };
    known[what] = true;
    rotations.set(by.id, known);
  };
  for (const { table, keyPosition } of plan.segments) use(rotation(table, keyPosition), "keys");
  if (options.rawKeys) use(rotation({ ...plan.segments[0]!.table, amplitude: 1 }, constantPosition(0)), "keys");
  const queryRotation = (lane: Lane) => rotation(lane.segment.table, lane.segment.queryPosition);
  for (const tile of tiles) for (const lane of tile.lanes) use(queryRotation(lane), "queries");
  // A tile that sees nothing still takes its zeros from some queries.
  if (tiles.some((tile) => tile.lanes.length === 0)) use(rotation(plan.segments[0]!.table, plan.segments[0]!.queryPosition), "queries");
  // Queries come first, so that index 0 has some.
  const ordered = [...rotations.values()].sort((a, b) => Number(b.queries) - Number(a.queries));
  const indexOf = new Map(ordered.map(({ rotation: { id } }, i) => [id, i] as const));

  const shape: AttentionShape = {
    rotations: ordered.map(({ queries, keys, rotation: { identity } }) => ({ queries, keys, identity })),
    tiles: tiles.map((tile) => ({
      lanes: tile.lanes.map((lane) => ({ rotation: indexOf.get(queryRotation(lane).id)!, masked: lane.masked })),
      stretches: tile.stretches.map(({ lanes }) => lanes.to - lanes.from),
      blind: tile.blind,
    })),
    tempered: plan.temperature !== undefined,
  };
  return {
    shape,
    key: JSON.stringify(shape),
    keyRotations: ordered.flatMap(({ keys, rotation: by }, i) => (keys ? [[i, by] as const] : [])),
    feeds: chunkFeeds(plan, ordered.map((entry) => entry.rotation), tiles, first, count),
    tiles,
  };
}

function chunkFeeds(plan: AttentionPlan, rotations: readonly Rotation[], tiles: readonly Tile[], first: number, count: number): Feeds {
  const tokens = Array.from({ length: count }, (_, t) => first + t);
  const feeds: Feeds = { positions: integers([...tokens.keys()], 1, count) };
  rotations.forEach((by, i) => {
    if (by.identity) return;
    const { cos, sin } = angles(by, tokens, count);
    feeds[port.cos(i)] = floats(cos, count, by.table.inverse.length);
    feeds[port.sin(i)] = floats(sin, count, by.table.inverse.length);
  });
  if (plan.temperature) feeds.temperature = floats(Float32Array.from(tokens, (token) => plan.temperature!.at(token)), 1, count, 1);
  if (tiles.length > 1) feeds.tileSizes = integers(tiles.map((tile) => tile.count), tiles.length);
  tiles.forEach((tile, t) => {
    tile.lanes.forEach((lane, l) => {
      if (lane.masked) feeds[port.bias(t, l)] = floats(bias(lane, tile.first, tile.count), tile.count, 1, lane.width);
    });
    if (tile.stretches.length > 1) {
      const widths = tile.stretches.map(({ lanes }) => tile.lanes.slice(lanes.from, lanes.to).reduce((sum, lane) => sum + lane.width, 0));
      feeds[port.widths(t)] = integers(widths, widths.length);
    }
    if (tile.blind) feeds[port.sighted(t)] = floats(sighted(tile), tile.count, 1, 1);
  });
  return feeds;
}

/** 1 for a query that sees something, 0 for one that sees nothing. */
function sighted(tile: Tile): Float32Array {
  const marks = new Float32Array(tile.count);
  for (const lane of tile.lanes) {
    const mask = bias(lane, tile.first, tile.count);
    for (let t = 0; t < tile.count; t++) if (mask.subarray(t * lane.width, (t + 1) * lane.width).includes(0)) marks[t] = 1;
  }
  return marks;
}
