import type { Capabilities, Dispatch } from "../kernel.ts";
import { broadcastProduct, planBroadcastProduct } from "./product-broadcast.ts";
import { rowProduct } from "./product-row.ts";
import { tiledProduct } from "./product-tiled.ts";
import type { Product } from "./product.ts";

/** Rows read a matrix once for every four tokens, tiles once for many; rows can normalise their input themselves. */
export type ProductPath = "rows" | "tiles";

/** More tokens than these are tiled. */
const MOST_ROWS = 8;

export function productPath(tokens: number): ProductPath {
  return tokens <= MOST_ROWS ? "rows" : "tiles";
}

/** The dispatch for a product of any height. A `norm` is for those whose path is "rows". */
export function productDispatch(product: Product, capabilities: Capabilities): Dispatch {
  if (productPath(product.tokens) === "rows") return rowProduct(product, capabilities);
  const broadcast = planBroadcastProduct(capabilities);
  return broadcast ? broadcastProduct(product, capabilities, broadcast) : tiledProduct(product, capabilities);
}
