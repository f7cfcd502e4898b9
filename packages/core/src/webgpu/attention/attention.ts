import type { Capabilities, Dispatch, Kernel } from "../device/kernel.ts";
import type { AttentionTables } from "./lane-table.ts";
import type { TablesRequest } from "./work-tables.ts";
import type { AttentionTiling, SplitSizes } from "../device/tilings.ts";
import { attentionTiling } from "./attention-tilings.ts";
import { broadcastRows, broadcastTilesKernel } from "./attention-broadcast.ts";
import { attentionReduce, reduceKernel } from "./attention-reduce.ts";
import type { AttentionShape } from "./attention-shape.ts";
import {
  attentionSplit,
  partBytes,
  splitKernel,
  splitTiling,
  type AttentionGoal,
  type SplitTiling,
} from "./attention-split.ts";
import { attentionTiled, tiledKernel } from "./attention-tiled.ts";
import { rotateAndStore, rotateAndStoreKernel, type RotateAndStore } from "./rotate-and-store.ts";
import { turnKeys, turnKeysKernel, type TurnKeys } from "./turn-keys.ts";

/** More queries than these are tiled; fewer leave most threads of a tile idle. */
const MOST_SPLIT = 4;
/** Pieces that keep a processor busy, for one key head, and the least keys of one. */
const SOFTWARE_PIECES = { wanted: 64, shortest: 32 };
/** Workgroups that keep a GPU busy: of a single token, whose keys are cut into pieces of 64 or more, and of tiles. */
const PIECE_WORKGROUPS = 768;
const SHORTEST_PIECE = 64;
const TILE_WORKGROUPS = 512;
const SHORTEST_RANGE = 256;

/** In place of what the adapter's tuning says, or of what is sensible. */
export interface AttentionTilings {
  readonly tiles?: AttentionTiling;
  readonly pieces?: SplitSizes;
}

/** All kernels of attention for one model on one device, made once. */
export class AttentionKernels {
  readonly shape: AttentionShape;
  readonly #capabilities: Capabilities;
  readonly #tileRows: number;
  readonly #splitTiling: SplitTiling;
  readonly #rotate: Kernel;
  readonly #turn: Kernel;
  readonly #tiled: Kernel;
  /** The same for parts of rows: over ranges of keys, and where other kernels add parts of their own. */
  readonly #parts: Kernel;
  /** Whether tiles are cut into ranges of keys; not on processors, which few tiles keep busy. */
  readonly #cutsKeys: boolean;
  readonly #split: Kernel;
  readonly #reduce: Kernel;

  /** `normEpsilon`: of the norm over each head of q and k, null where a model has none. */
  constructor(
    shape: AttentionShape,
    capabilities: Capabilities,
    normEpsilon: number | null = null,
    tilings: AttentionTilings = {},
  ) {
    this.shape = shape;
    this.#capabilities = capabilities;
    this.#splitTiling = splitTiling({ shape }, capabilities, tilings.pieces);
    this.#rotate = rotateAndStoreKernel({ storage: shape.storage, normEpsilon });
    this.#turn = turnKeysKernel(shape);
    const tiles = tilings.tiles ?? attentionTiling(shape, capabilities);
    const broadcast = tiles.path === "broadcast";
    this.#tiled = broadcast ? broadcastTilesKernel({ shape }, tiles) : tiledKernel({ shape }, tiles);
    this.#parts = broadcast ? broadcastTilesKernel({ shape }, tiles, "parts") : tiledKernel({ shape }, tiles, "parts");
    this.#cutsKeys = !broadcast && !capabilities.software;
    this.#tileRows = broadcast ? broadcastRows(tiles) : tiles.rows;
    this.#split = splitKernel({ shape }, this.#splitTiling);
    this.#reduce = reduceKernel(this.#splitTiling);
  }

  /** To be compiled ahead. */
  get kernels(): readonly Kernel[] {
    const ranged = this.#cutsKeys ? [this.#parts] : [];
    return [this.#rotate, this.#turn, this.#tiled, ...ranged, this.#split, this.#reduce];
  }

  /**
   * How the tables of a chunk of so many queries have to be cut: a part of `TablesRequest`. `masked`: some lane holds keys
   * that a query does not see, which only tiles look at (`masksChosen`). `otherParts` is that of the tables.
   */
  cut(
    count: number,
    masked = false,
    otherParts = 0,
  ): Pick<TablesRequest, "pieces" | "ranges"> & { readonly tileRows: number | null } {
    const tileRows = count <= MOST_SPLIT && !masked ? null : this.#tileRows;
    return { tileRows, pieces: this.#pieces, ranges: this.#ranges(count, otherParts) };
  }

  get #pieces(): NonNullable<TablesRequest["pieces"]> {
    const { longest, heads } = this.#splitTiling;
    if (this.#capabilities.software) return { ...SOFTWARE_PIECES, longest };
    const wanted = Math.ceil(PIECE_WORKGROUPS / (this.shape.queryHeads / heads));
    return { longest, wanted, shortest: Math.min(SHORTEST_PIECE, longest) };
  }

  /** As many as keep a device busy, and as one binding holds the parts of. */
  #ranges(count: number, otherParts = 0): TablesRequest["ranges"] {
    if (!this.#cutsKeys) return undefined;
    const most = Math.floor(this.#capabilities.maxBinding / partBytes(this.shape, Math.min(count, this.#tileRows)));
    const wanted = Math.min(
      Math.ceil(TILE_WORKGROUPS / this.shape.queryHeads),
      most - (1 + otherParts) * Math.ceil(count / this.#tileRows),
    );
    return { wanted: Math.max(1, wanted), shortest: wanted > 1 ? SHORTEST_RANGE : Infinity };
  }

  /** Bytes of the parts of a chunk: at once as many as a long text has, so that they seldom grow with it. */
  partBytes({ path, partCount, count }: Pick<AttentionTables, "path" | "partCount" | "count">): number {
    if (partCount === 0) return partBytes(this.shape, 1);
    if (path === "split") return partBytes(this.shape, Math.max(partCount, this.#pieces.wanted));
    const items = (this.#ranges(count)?.wanted ?? 0) + Math.ceil(count / this.#tileRows); // those that are rounded up
    return partBytes(this.shape, Math.max(partCount, items * Math.min(count, this.#tileRows)));
  }

  rotateAndStore(work: RotateAndStore): Dispatch[] {
    return rotateAndStore(this.#rotate, this.shape, this.#capabilities, work);
  }

  turnKeys(work: TurnKeys): Dispatch[] {
    return turnKeys(this.#turn, this.shape, this.#capabilities, work);
  }

  /**
   * Fills `attended` [T, H, D]; `parts` takes `partBytes(tables)`. Two dispatches where there are parts, one where tiles
   * see all of their keys, none when the tables were made without attention; more where they are much work. `others` are
   * dispatches that write the tables' `otherParts`.
   */
  attend(work: AttentionGoal, others: readonly Dispatch[] = []): Dispatch[] {
    const { path, partCount } = work.tables;
    if (path === "none") return [];
    const reduced = [...others, attentionReduce(this.#reduce, this.shape, this.#capabilities, work)];
    if (path === "split")
      return [...attentionSplit(this.#split, this.shape, this.#splitTiling, this.#capabilities, work), ...reduced];
    const kernel = partCount > 0 ? this.#parts : this.#tiled;
    return [...attentionTiled(kernel, this.shape, this.#capabilities, work), ...(partCount > 0 ? reduced : [])];
  }
}
