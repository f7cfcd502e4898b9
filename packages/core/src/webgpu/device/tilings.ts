/**
 * Tilings: how each kernel divides its work among workgroups and invocations. Any of them gives right results; which one
 * is the fastest depends on the adapter, and `longctx tune` measures that.
 */

/** A product of few input rows, by teams of invocations that walk along the matrix' rows (products/product-row.ts). */
export interface RowTiling {
  /** Invocations that share a matrix row; a team of 1 sums nothing across invocations. */
  readonly teamSize: number;
  /** Teams in a workgroup. */
  readonly teams: number;
  /** Matrix rows that an invocation has in registers. */
  readonly rows: number;
  /** Input rows that an invocation has in registers. */
  readonly tokens: number;
  /** What an invocation takes at a time: a block of 32 columns, or a quarter of it where a row has few blocks. */
  readonly unit: "block" | "quarter";
  /**
   * The size of all subgroups, for teams of 1 that are as many as it and take whole blocks: each invocation loads one
   * vector in so many of the input, and its subgroup passes it on.
   */
  readonly broadcast?: 4 | 8;
}

/**
 * A product of many input rows (products/product-tiled.ts): side × side invocations have a tile of side · tall tokens and
 * side · wide outputs, tall × wide sums each, and 32 columns of both in workgroup memory at a time, dequantised.
 */
export interface SquareTiling {
  readonly side: 8 | 16;
  /** Outputs of an invocation; even, so that it has both rows of a pair of gate and up. */
  readonly wide: number;
  /** Tokens of an invocation. */
  readonly tall: number;
  /** Workgroup memory holds 16-bit numbers, and the kernel multiplies those (products/product-half-tile.ts). */
  readonly half?: true;
}

/** A product of many input rows whose subgroups pass the input on (products/product-broadcast.ts). */
export interface BroadcastTiling {
  /** Invocations of a subgroup, exactly; a workgroup is one subgroup. */
  readonly subgroupSize: number;
  /** Matrix rows of an invocation; even, so that it has both rows of a pair of gate and up. */
  readonly rows: number;
  /** Input rows that an invocation loads; it has sums for `subgroupSize` times as many. */
  readonly tokens: number;
}

/** Attention of many queries with keys in workgroup memory (attention/attention-tiled.ts). */
export interface QueryTiling {
  /** Queries of a workgroup; the `tileRows` of the tables. */
  readonly rows: number;
  /** Keys in workgroup memory at once, an even number. */
  readonly keys: number;
  /** Invocations that share a query; one where it is not given. */
  readonly teamSize?: number;
}

/** Attention of many queries whose subgroups pass keys and values on (attention/attention-broadcast.ts). */
export interface BroadcastQueryTiling {
  /** Invocations of a subgroup, exactly; a workgroup is one subgroup. */
  readonly subgroupSize: number;
  /** Queries of an invocation. */
  readonly queries: number;
  /** Keys that an invocation loads at a time; it has scores for `subgroupSize` times as many. */
  readonly keys: number;
}

/** What may be chosen freely of attention that is split over keys (attention/attention-split.ts). */
export interface SplitSizes {
  /** Invocations of a workgroup; more where a row has more vectors of four channels. */
  readonly threads: number;
  /** Most keys of a piece; fewer where a workgroup does not hold them. */
  readonly longest: number;
}

/** One of the kernels of products, and its tiling. */
export type ProductTiling =
  | ({ readonly path: "rows" } & RowTiling)
  | ({ readonly path: "tiles" } & SquareTiling)
  | ({ readonly path: "broadcast" } & BroadcastTiling);

/** One of the kernels of attention for many queries, and its tiling. */
export type AttentionTiling =
  | ({ readonly path: "tiles" } & QueryTiling)
  | ({ readonly path: "broadcast" } & BroadcastQueryTiling);

/** `fast`: of models opened with that precision, where the device multiplies halves; else they have the others' tilings. */
export const PRODUCT_CLASSES = [
  "one row, plain",
  "one row, packed",
  "many rows, plain",
  "many rows, packed",
  "many rows, plain, fast",
  "many rows, packed, fast",
] as const;
export type ProductClass = (typeof PRODUCT_CLASSES)[number];

/** Tilings that were measured to be faster on one adapter than the standard ones; what is absent stays standard. */
export interface Tuning {
  readonly products: Readonly<Partial<Record<ProductClass, ProductTiling>>>;
  /** Attention of many queries, by `attentionClass`. */
  readonly tiles: Readonly<Record<string, AttentionTiling>>;
  /** Attention of few queries, by `attentionClass`. */
  readonly pieces: Readonly<Record<string, SplitSizes>>;
}

/** Equal names with equal values. */
export function sameTiling(a: object, b: object): boolean {
  const [these, those] = [new Map(Object.entries(a)), new Map(Object.entries(b))];
  return these.size === those.size && [...these].every(([name, value]) => those.has(name) && those.get(name) === value);
}
