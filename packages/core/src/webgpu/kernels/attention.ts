import type { Capabilities, Dispatch, GpuSlice, Kernel } from "../kernel.ts";
import { broadcastRows, broadcastTilesKernel, planBroadcastTiles } from "./attention-broadcast.ts";
import { attentionReduce, reduceKernel } from "./attention-reduce.ts";
import type { AttentionShape } from "./attention-shape.ts";
import { attentionSplit, splitKernel, splitPlan, type AttentionWork, type SplitPlan } from "./attention-split.ts";
import { attentionTiled, tiledKernel, tiledPlan } from "./attention-tiled.ts";
import { rotateAndStore, rotateAndStoreKernel, type RotateAndStore } from "./rotate-and-store.ts";
import { turnKeys, turnKeysKernel, type TurnKeys } from "./turn-keys.ts";

/** More queries than these are tiled; fewer leave most threads of a tile idle. */
const MOST_SPLIT = 4;
/** Pieces that keep a device busy, for one key head. */
const WANTED_PIECES = 64;

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
  constructor(shape: AttentionShape, capabilities: Capabilities, normEpsilon: number | null = null) {
    this.shape = shape;
    this.#capabilities = capabilities;
    this.#splitPlan = splitPlan({ shape }, capabilities);
    this.#rotate = rotateAndStoreKernel({ storage: shape.storage, normEpsilon });
    this.#turn = turnKeysKernel(shape);
    const broadcast = planBroadcastTiles(capabilities);
    const tiles = broadcast ? null : tiledPlan({ shape }, capabilities);
    this.#tiled = tiles ? tiledKernel({ shape }, tiles) : broadcastTilesKernel({ shape }, broadcast!);
    this.#tileRows = tiles ? tiles.rows : broadcastRows(broadcast!);
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
