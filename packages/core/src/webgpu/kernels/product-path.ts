import type { Capabilities, Dispatch } from "../kernel.ts";
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
  const make = productPath(product.tokens) === "rows" ? rowProduct : tiledProduct;
  return make(product, capabilities);
}
