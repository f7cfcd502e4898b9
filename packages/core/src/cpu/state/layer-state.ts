import type { StateBytes } from "../../backend/backend.ts";
import type { Rotation } from "../../positions/rotation.ts";
import type { KeyCopy } from "../../state/key-copies.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { AttentionMass } from "./attention-mass.ts";
import type { BlockIndex } from "./block-index.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import type { ColdLayer } from "./cold-layer.ts";
import type { CompressiveMemory } from "./compressive-memory.ts";
import type { InverseNorms } from "./inverse-norms.ts";
import type { KeyIndexes } from "./key-indexes.ts";

export interface CpuKeyCopy extends KeyCopy {
  /** [K, capacity, D] */
  readonly buffer: CacheBuffer;
}

/**
 * The state of one layer: a ring of keys and values, an index for each kind of blocks, the attention mass that salient keys
 * are chosen by, a memory where a plan has one.
 */
export interface LayerState {
  /** Where the buffers hold tokens: all that the ring has, or near tokens alone. */
  readonly slots: SlotMap;
  /** The keys and values of all tokens, where the buffers hold near tokens alone; else null. */
  readonly cold: ColdLayer | null;
  /** Copies of the keys by `Rotation.id`, one for each rotation that the last plan read. */
  readonly copies: Map<string, CpuKeyCopy>;
  /** Ids of the rotations that the last single token read without a copy, turning raw keys. */
  turned: ReadonlySet<string>;
  values: CacheBuffer;
  readonly indexes: BlockIndex[];
  readonly mass: AttentionMass;
  /** Inverse norms of copies of the keys, by `Rotation.id`, where choices are made by cosines. */
  readonly norms: Map<string, InverseNorms>;
  /** Approximate indexes of keys, where single queries choose tokens by them. */
  readonly keyIndexes: KeyIndexes;
  memory: CompressiveMemory | null;
}

/** A copy of keys whose rotation is known. */
export type TurnedCopy = CpuKeyCopy & { readonly rotation: Rotation };

/** Copies the rows of all tokens before `end` to an empty buffer, which is returned. */
export function copyRows(from: CacheBuffer, to: CacheBuffer, slots: SlotMap, end: number): CacheBuffer {
  to.rewrite(end);
  for (const run of slots.runs(0, end))
    for (let head = 0; head < from.heads; head++)
      to.view(head, run.from, run.to).set(from.read(head, run.from, run.to));
  return to;
}

/** The bytes of all layers of a sequence by part; `buffers` are those of their keys and values. */
export function bytesOfLayers(layers: readonly LayerState[], buffers: Iterable<CacheBuffer>): StateBytes {
  const sum = (bytes: readonly number[]) => bytes.reduce((total, one) => total + one, 0);
  return {
    ring: sum([...buffers].map(({ byteLength }) => byteLength)),
    far: sum(layers.map(({ cold }) => cold?.bytes ?? 0)),
    index: sum(
      layers.flatMap(({ indexes, mass, norms, keyIndexes }) => [
        ...indexes.map(({ bytes }) => bytes),
        ...[...norms.values()].map(({ values }) => values.byteLength),
        keyIndexes.bytes,
        mass.bytes,
      ]),
    ),
    memory: sum(layers.map(({ memory }) => memory?.bytes ?? 0)),
  };
}
