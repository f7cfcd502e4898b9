import type { Choice } from "../../method/plan.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { LayerRing } from "../attention/attention-shape.ts";
import type { AttentionTables } from "../attention/lane-table.ts";
import type { GpuSlice } from "../device/kernel.ts";
import type { SparseTables } from "../sparse/sparse-tables.ts";
import type { BlockIndex, IndexKind } from "../state/layer-buffers.ts";

/** What the choices of one layer read and write. */
export interface LayerChoices {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  /** Choices by row or head, and where `bytes` of their tables was uploaded; null where all choices are shared. */
  readonly sparse: { readonly tables: SparseTables; readonly uploaded: GpuSlice } | null;
  /** As `rotate-and-store` left them. */
  readonly queries: GpuSlice;
  readonly ring: LayerRing;
  readonly slots: SlotMap;
  /** Which place of the ring holds the keys under a rotation, by its id. */
  readonly places: ReadonlyMap<string, number>;
  /** The layer's index of blocks of one kind, with room for so many blocks. */
  readonly indexOf: (kind: IndexKind, blocks: number) => BlockIndex;
  /** The layer's attention mass, [tokens, K]; null where none is counted. */
  readonly mass: GpuSlice | null;
  /** Bytes of scores that are there at once; 64 MiB unless given. */
  readonly scoreBytes?: number;
  /** The factors of the layer's query heads where a choice's scores are cosines, from word `at` on. */
  readonly scalesOf: (choice: Choice) => { readonly scales: GpuSlice; readonly at: number };
}
