import type { Choice, Representative } from "../../method/plan.ts";
import type { Rotation } from "../../positions/rotation.ts";
import type { Rings } from "../../state/rings.ts";
import type { SlotMap, SlotRun } from "../../state/slots.ts";
import { quadsOf, rowBytesOf, type AttentionShape, type LayerRing } from "../attention/attention-shape.ts";
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

/** What represents blocks of tokens, in float32: block j begins at token from + j · size. */
export interface BlockIndex {
  readonly from: number;
  readonly size: number;
  readonly by: Representative;
  /** [blocks, K, rows, D]: one row, or two where they are the bounds of a block's keys. */
  readonly representatives: GpuSlice;
  /** Blocks that there is room for. */
  readonly capacity: number;
  /** Blocks [0, known) are there. */
  known: number;
}

/** The blocks of a choice and what represents them, as an index is made for. */
export type IndexKind = Pick<Choice, "from" | "size" | "representative">;

/** Names an index among those of a layer; the key of a block of one token represents it, whatever the choice says. */
export function indexKey({ from, size, representative }: IndexKind): string {
  return JSON.stringify([from, size, representativeOf({ size, representative })]);
}

/** Returns what represents the blocks of a choice. */
export function representativeOf({ size, representative }: Pick<Choice, "size" | "representative">): Representative {
  return size === 1 || !representative ? { kind: "mean" } : representative;
}

/** Rows of a key head that represent a block. */
export function representativeRows({ kind }: Representative): number {
  return kind === "bounds" ? 2 : 1;
}

/** The attention mass of a layer's tokens in float32, [tokens, K]: sums of attention probabilities. */
export interface GpuMass {
  readonly sums: GpuSlice;
  /** Tokens that there is room for; those that no query has counted yet have zeros. */
  readonly capacity: number;
  /** The text length up to which queries were counted. */
  counted: number;
}

/** A compressive memory in float32: M [K, D, D], zeros behind the last column, and z [K, D]. */
export interface GpuMemory {
  readonly matrix: GpuSlice;
  readonly sums: GpuSlice;
  /** Segments of the text that are written, and the tokens of each. */
  written: number;
  segment: number;
}

/** Bytes of M and of z. */
export function memoryBytes(shape: AttentionShape): { readonly matrix: number; readonly sums: number } {
  const { keyHeads, headSize } = shape;
  return { matrix: 16 * keyHeads * headSize * quadsOf(shape), sums: 4 * keyHeads * headSize };
}

/** What the device keeps of one layer of a sequence. */
export interface GpuLayer {
  /** Keys, once for each rotation that the plans at hand need. */
  readonly copies: Map<string, GpuKeyCopy>;
  buffers: LayerRing;
  /** Keys and values on the host, as hooks were shown them. */
  mirror: LayerMirror | null;
  /** By `indexKey`. */
  readonly indexes: Map<string, BlockIndex>;
  /** Null until a plan asks for it. */
  mass: GpuMass | null;
  /** Null until a plan asks for it. */
  memory: GpuMemory | null;
}

/** What is read and written of a state as a whole. */
export interface HeldState {
  readonly gpu: Gpu;
  readonly shape: AttentionShape;
  readonly rings: Rings;
  readonly layers: readonly GpuLayer[];
  readonly parts: {
    memoryOf(layer: number): GpuMemory;
    massOf(layer: number, tokens: number): GpuMass;
  };
}

/** Copies after which `to` holds what `from` holds, as far as both have slots and places. */
export function movesBetween(shape: AttentionShape, from: LayerRing, to: LayerRing): Copy[] {
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
  { groups, places, stride }: LayerRing,
  head: number,
  place: number,
): GpuSlice {
  const group = groups.find(({ firstHead, heads }) => head >= firstHead && head < firstHead + heads)!;
  const size = stride * rowBytesOf(shape);
  return part(group.keys, ((head - group.firstHead) * places + place) * size, size);
}

/** Values of one head, [stride, D]. */
export function valuesOf(shape: AttentionShape, { groups, stride }: LayerRing, head: number): GpuSlice {
  const group = groups.find(({ firstHead, heads }) => head >= firstHead && head < firstHead + heads)!;
  const size = stride * rowBytesOf(shape);
  return part(group.values, (head - group.firstHead) * size, size);
}

/** The held slots of a layer's values, and of its keys in some places, in the order they are saved in. */
export function stretches({ shape, rings, layers }: HeldState, layer: number, places: readonly number[]): GpuSlice[] {
  const { buffers } = layers[layer];
  if (buffers.groups.length === 0) return [];
  const heads = Array.from({ length: shape.keyHeads }, (_, head) => head);
  const rowBytes = rowBytesOf(shape);
  const all = [
    ...heads.map((head) => valuesOf(shape, buffers, head)),
    ...places.flatMap((place) => heads.map((head) => keysOf(shape, buffers, head, place))),
  ];
  const runs = heldRuns(rings.at(layer));
  return all.flatMap((head) => runs.map(({ from, to }) => part(head, from * rowBytes, (to - from) * rowBytes)));
}

/** The slots of all tokens that a ring holds, in order of the text. */
export function heldRuns(slots: SlotMap): SlotRun[] {
  return slots.runs(0, slots.length);
}
