import type { Precision } from "../../backend/backend.ts";
import type { Capabilities, Dispatch } from "../device/kernel.ts";
import { productClass, type ProductPlan } from "../tuning/tuning.ts";
import { broadcastProduct, planBroadcastProduct } from "./product-broadcast.ts";
import { planRowProduct, rowProduct, withBroadcast } from "./product-row.ts";
import { multipliesHalves, planTiledProduct, tiledProduct } from "./product-tiled.ts";
import { productKey, type Product, type ProductKey } from "./product.ts";

/** Rows read a matrix once for every four tokens, tiles once for many; rows can normalise their input themselves. */
export type ProductPath = "rows" | "tiles";

/** More tokens than these are tiled. */
const MOST_ROWS = 8;

export function productPath(tokens: number): ProductPath {
  return tokens <= MOST_ROWS ? "rows" : "tiles";
}

/** What a plan depends on beside what changes the code. */
export interface ProductShape {
  readonly tokens: number;
  readonly rows: number;
  /** Of 32 columns. */
  readonly blocks: number;
  readonly precision?: Precision;
}

/** By rows, in tiles or by broadcast: what was measured to be the fastest on the adapter, else what is sensible there. */
export function planProduct(key: ProductKey, shape: ProductShape, capabilities: Capabilities): ProductPlan {
  const of = productClass(key.type, shape.tokens, multipliesHalves(shape.precision, capabilities));
  const tuned = of && capabilities.tuning?.products[of];
  if (tuned) return key.activation && tuned.path !== "tiles" ? { ...tuned, rows: Math.max(2, tuned.rows) } : tuned;
  if (productPath(shape.tokens) === "rows")
    return { path: "rows", ...withBroadcast(planRowProduct(key, shape, capabilities), capabilities) };
  const broadcast = planBroadcastProduct(key, shape, capabilities);
  return broadcast ? { path: "broadcast", ...broadcast } : { path: "tiles", ...planTiledProduct(shape, capabilities) };
}

/** The dispatch for a product of any height. A `norm` is for those whose path is "rows". */
export function productDispatch(product: Product, capabilities: Capabilities, given?: ProductPlan): Dispatch {
  const { matrix, tokens, precision } = product;
  const shape = { tokens, rows: matrix.rows, blocks: matrix.blocks, precision };
  const plan = given ?? planProduct(productKey(product), shape, capabilities);
  if (plan.path === "rows") return rowProduct(product, capabilities, plan);
  if (plan.path === "tiles") return tiledProduct(product, capabilities, plan);
  return broadcastProduct(product, capabilities, plan);
}
