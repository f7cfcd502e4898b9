import type { Precision } from "../../backend/backend.ts";
import { equalSubgroups, type Capabilities, type Dispatch } from "../device/kernel.ts";
import type { ProductClass, ProductTiling, SquareTiling } from "../device/tilings.ts";
import type { TensorType } from "../../model/weights.ts";
import { broadcastProduct, broadcastTiling } from "./product-broadcast.ts";
import { rowTiling, rowProduct, withBroadcast } from "./product-row.ts";
import { tileMemory } from "./product-tile.ts";
import { multipliesHalves, squareTiling, tiledProduct } from "./product-tiled.ts";
import { productKey, type Product, type ProductKey } from "./product.ts";

/** Rows read a matrix once for every four tokens, tiles once for many; rows can normalise their input themselves. */
export type ProductPath = "rows" | "tiles";

/** More tokens than these are tiled. */
const MOST_ROWS = 8;

export function productPath(tokens: number): ProductPath {
  return tokens <= MOST_ROWS ? "rows" : "tiles";
}

/** What a tiling depends on beside what changes the code. */
export interface ProductShape {
  readonly tokens: number;
  readonly rows: number;
  /** Of 32 columns. */
  readonly blocks: number;
  readonly precision?: Precision;
}

/** Rows of the input from which on a tuned tiling for many is taken; fewer leave most of a tile idle. */
const MANY = 64;

/** Null for a few rows, which are not tuned. `halves`: whether they may be multiplied. */
export function productClass(type: TensorType, tokens: number, halves: boolean): ProductClass | null {
  const kind = type.startsWith("Q") ? "packed" : "plain";
  if (tokens === 1) return `one row, ${kind}`;
  if (tokens < MANY) return null;
  return halves ? `many rows, ${kind}, fast` : `many rows, ${kind}`;
}

/** By rows, in tiles or by broadcast: what was measured to be the fastest on the adapter, else what is sensible there. */
export function productTiling(key: ProductKey, shape: ProductShape, capabilities: Capabilities): ProductTiling {
  const of = productClass(key.type, shape.tokens, multipliesHalves(shape.precision, capabilities));
  const tuned = of && capabilities.tuning?.products[of];
  if (tuned) return key.activation && tuned.path !== "tiles" ? { ...tuned, rows: Math.max(2, tuned.rows) } : tuned;
  if (productPath(shape.tokens) === "rows")
    return { path: "rows", ...withBroadcast(rowTiling(key, shape, capabilities), capabilities) };
  const broadcast = broadcastTiling(key, shape, capabilities);
  return broadcast ? { path: "broadcast", ...broadcast } : { path: "tiles", ...squareTiling(shape, capabilities) };
}

/** The dispatch for a product of any height. A `norm` is for those whose path is "rows". */
export function productDispatch(product: Product, capabilities: Capabilities, given?: ProductTiling): Dispatch {
  const { matrix, tokens, precision } = product;
  const shape = { tokens, rows: matrix.rows, blocks: matrix.blocks, precision };
  const tiling = given ?? productTiling(productKey(product), shape, capabilities);
  if (tiling.path === "rows") return rowProduct(product, capabilities, tiling);
  if (tiling.path === "tiles") return tiledProduct(product, capabilities, tiling);
  return broadcastProduct(product, capabilities, tiling);
}

/** Tilings worth a measurement on a device, none where it lacks what the class needs; each gives right results there. */
export function productCandidates(of: ProductClass, capabilities: Capabilities): readonly ProductTiling[] {
  const { software, maxInvocations, maxWorkgroupMemory } = capabilities;
  const subgroupSize = equalSubgroups(capabilities);
  if (of.startsWith("one")) {
    if (software)
      return [1, 2, 4].map((rows) => {
        const tiling = { path: "rows", teamSize: 1, teams: subgroupSize ?? 8, rows, tokens: 1, unit: "block" } as const;
        return subgroupSize ? { ...tiling, broadcast: subgroupSize } : tiling;
      });
    return [16, 32, 64].flatMap((wide) =>
      [1, 2, 4].flatMap((rows) =>
        (["block", "quarter"] as const).map(
          (unit) => ({ path: "rows", teamSize: wide, teams: 128 / wide, rows, tokens: 1, unit }) as const,
        ),
      ),
    );
  }
  const halves = of.endsWith("fast");
  if (halves && !multipliesHalves("fast", capabilities)) return [];
  if (software && subgroupSize)
    return [
      [2, 2],
      [2, 4],
      [4, 2],
    ].map(
      ([rows, eights]) => ({ path: "broadcast", subgroupSize, rows, tokens: (8 / subgroupSize) * eights }) as const,
    );
  const sides = [
    [16, 4, 2],
    [16, 4, 4],
    [16, 4, 8],
    [16, 8, 4],
    [8, 8, 4],
    [8, 8, 8],
  ] as const;
  return sides
    .map(([side, wide, tall]) => ({ side, wide, tall }))
    .flatMap((tiling): SquareTiling[] => (halves ? [tiling, { ...tiling, half: true }] : [tiling]))
    .filter((tiling) => tiling.side ** 2 <= maxInvocations && tileMemory(tiling) <= maxWorkgroupMemory)
    .map((tiling) => ({ path: "tiles", ...tiling }));
}
