import type { Capabilities, Dispatch, GpuSlice, Kernel } from "../kernel.ts";
import { tunedTiles, type QueryTilesPlan } from "../tuning.ts";
import { broadcastRows, broadcastTilesKernel, planBroadcastTiles } from "./attention-broadcast.ts";
import { attentionReduce, reduceKernel } from "./attention-reduce.ts";
import type { AttentionShape } from "./attention-shape.ts";
import {
  attentionSplit,
  splitKernel,
  splitPlan,
  type AttentionWork,
  type SplitPlan,
  type SplitSizes,
} from "./attention-split.ts";
import { attentionTiled, tiledKernel, tiledPlan } from "./attention-tiled.ts";
import { rotateAndStore, rotateAndStoreKernel, type RotateAndStore } from "./rotate-and-store.ts";
import { turnKeys, turnKeysKernel, type TurnKeys } from "./turn-keys.ts";

/** More queries than these are tiled; fewer leave most threads of a tile idle. */
const MOST_SPLIT = 4;
/** Pieces that keep a device busy, for one key head. */
const WANTED_PIECES = 64;

/** In place of what the adapter's tuning says, or of what is sensible. */
export interface AttentionPlans {
  readonly tiles?: QueryTilesPlan;
  readonly pieces?: SplitSizes;
}

/** How many queries are taken: as it was measured to be the fastest on the adapter, else what is sensible there. */
export function planQueryTiles(shape: AttentionShape, capabilities: Capabilities): QueryTilesPlan {
  const tuned = tunedTiles(shape, capabilities);
  if (tuned) return tuned;
  const broadcast = planBroadcastTiles(capabilities);
  return broadcast ? { path: "broadcast", ...broadcast } : { path: "tiles", ...tiledPlan({ shape }, capabilities) };
}

/** All kernels of attention for one model on one device, made once. */
export class AttentionKernels {
  readonly shape: AttentionShape;
  readonly #capabilities: Capabilities;
  readonly #tileRows: number;
  readonly #splitPlan: SplitPlan;
  readonly #rotate: Kernel;
  readonly #turn: Kernel;
  readonly #tiled: Kernel;
  readonly #split: Kernel;
  readonly #reduce: Kernel;

  /** `normEpsilon`: of the norm over each head of q and k, null where a model has none. */
  constructor(
    shape: AttentionShape,
    capabilities: Capabilities,
    normEpsilon: number | null = null,
    plans: AttentionPlans = {},
  ) {
    this.shape = shape;
    this.#capabilities = capabilities;
    this.#splitPlan = splitPlan({ shape }, capabilities, plans.pieces);
    this.#rotate = rotateAndStoreKernel({ storage: shape.storage, normEpsilon });
    this.#turn = turnKeysKernel(shape);
    const tiles = plans.tiles ?? planQueryTiles(shape, capabilities);
    const broadcast = tiles.path === "broadcast";
    this.#tiled = broadcast ? broadcastTilesKernel({ shape }, tiles) : tiledKernel({ shape }, tiles);
    this.#tileRows = broadcast ? broadcastRows(tiles) : tiles.rows;
    this.#split = splitKernel({ shape }, this.#splitPlan);
    this.#reduce = reduceKernel(this.#splitPlan);
  }

  /** To be compiled ahead. */
  get kernels(): readonly Kernel[] {
    return [this.#rotate, this.#turn, this.#tiled, this.#split, this.#reduce];
  }

  /** How the tables of a chunk of so many queries have to be cut: a part of `TablesRequest`. */
  cut(count: number): { tileRows: number | null; pieces: { longest: number; wanted: number } } {
    const pieces = { longest: this.#splitPlan.longest, wanted: WANTED_PIECES };
    return { tileRows: count <= MOST_SPLIT ? null : this.#tileRows, pieces };
  }

  rotateAndStore(work: RotateAndStore): Dispatch[] {
    return rotateAndStore(this.#rotate, this.shape, this.#capabilities, work);
  }

  turnKeys(work: TurnKeys): Dispatch[] {
    return turnKeys(this.#turn, this.shape, this.#capabilities, work);
  }

  /**
   * Fills `attended` [T, H, D]; `parts` takes `partBytes(shape, tables.workCount)` where the path is split. Two
   * dispatches for a few queries, one for many, none when the tables were made without attention.
   */
  attend(work: AttentionWork & { readonly attended: GpuSlice; readonly parts: GpuSlice }): Dispatch[] {
    const { tables } = work;
    if (tables.path === "none") return [];
    if (tables.path === "tiled") return attentionTiled(this.#tiled, this.shape, this.#capabilities, work);
    return [
      ...attentionSplit(this.#split, this.shape, this.#splitPlan, this.#capabilities, work),
      attentionReduce(this.#reduce, this.shape, this.#capabilities, work),
    ];
  }
}
