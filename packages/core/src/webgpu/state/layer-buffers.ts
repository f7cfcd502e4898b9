import type { Rotation } from "../../positions/rotation.ts";
import type { SlotMap, SlotRun } from "../../state/slots.ts";
import { rowBytesOf, type AttentionShape, type LayerCache } from "../attention/attention-shape.ts";
import { part, type Copy } from "../device/copies.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";
import type { LayerMirror } from "./layer-mirror.ts";

export interface GpuKeyCopy {
  /** Null after `restore`: only the id is known. */
  readonly rotation: Rotation | null;
  /** Where in the layer's keys it is. */
  readonly place: number;
}

export interface GpuLayer {
  /** Keys, once for each rotation that the plans at hand need. */
  readonly copies: Map<string, GpuKeyCopy>;
  buffers: LayerCache;
  /** What hooks were shown of it. */
  mirror: LayerMirror | null;
}

/** What is read and written of a cache as a whole. */
export interface HeldCache {
  readonly gpu: Gpu;
  readonly shape: AttentionShape;
  readonly slots: SlotMap;
  readonly layers: readonly GpuLayer[];
}

/** Copies after which `to` holds what `from` holds, as far as both have slots and places. */
export function movesBetween(shape: AttentionShape, from: LayerCache, to: LayerCache): Copy[] {
  if (from.groups.length === 0) return [];
  const moves: Copy[] = [];
  const size = Math.min(from.stride, to.stride) * rowBytesOf(shape);
  for (let head = 0; head < shape.keyHeads; head++) {
    for (let place = 0; place < Math.min(from.places, to.places); place++)
      moves.push({ from: keysOf(shape, from, head, place), to: keysOf(shape, to, head, place), size });
    moves.push({ from: valuesOf(shape, from, head), to: valuesOf(shape, to, head), size });
  }
  return moves;
}

/** Keys of one head in one place, [stride, D]. */
export function keysOf(
  shape: AttentionShape,
  { groups, places, stride }: LayerCache,
  head: number,
  place: number,
): GpuSlice {
  const group = groups.find(({ firstHead, heads }) => head >= firstHead && head < firstHead + heads)!;
  const size = stride * rowBytesOf(shape);
  return part(group.keys, ((head - group.firstHead) * places + place) * size, size);
}

/** Values of one head, [stride, D]. */
export function valuesOf(shape: AttentionShape, { groups, stride }: LayerCache, head: number): GpuSlice {
  const group = groups.find(({ firstHead, heads }) => head >= firstHead && head < firstHead + heads)!;
  const size = stride * rowBytesOf(shape);
  return part(group.values, (head - group.firstHead) * size, size);
}

/** The held slots of a layer's values, and of its keys in some places, in the order they are saved in. */
export function stretches({ shape, slots }: HeldCache, { buffers }: GpuLayer, places: readonly number[]): GpuSlice[] {
  if (buffers.groups.length === 0) return [];
  const heads = Array.from({ length: shape.keyHeads }, (_, head) => head);
  const rowBytes = rowBytesOf(shape);
  const all = [
    ...heads.map((head) => valuesOf(shape, buffers, head)),
    ...places.flatMap((place) => heads.map((head) => keysOf(shape, buffers, head, place))),
  ];
  const runs = heldRuns(slots);
  return all.flatMap((head) => runs.map(({ from, to }) => part(head, from * rowBytes, (to - from) * rowBytes)));
}

/** The slots of all tokens that the cache holds, in order of the text. */
export function heldRuns(slots: SlotMap): SlotRun[] {
  return slots.runs(0, slots.length);
}
