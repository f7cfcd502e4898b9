import { Attention, joinParts } from "./attention";
import { Product } from "./products";
import { ATTENTION, LISTS, NEAREST, PRODUCT, SCORES, share } from "./threads";

export { compactKeys, compactQueries, compactValues } from "./compact";
export { fromHalves, scoreHalves, toHalves } from "./halves";
export { readMemory, writeMemory } from "./memory";
export { sortNearest } from "./nearest";
export { addTo, normalise, silu, toIntegers } from "./products";
export { score } from "./score";
export { serve, stop } from "./threads";

/** Computes a product together with the threads that serve. */
export function multiply(product: Product): void {
  share(PRODUCT, changetype<usize>(product), (product.groups + product.chunk - 1) / product.chunk);
}

/** Computes `count` parts of attention together with the threads that serve; joined they are `output` [K · heads, D]. */
export function attend(job: Attention, count: i32, each: i32, output: usize): void {
  share(ATTENTION, changetype<usize>(job), count);
  joinParts(job, count, each, output);
}

/** Computes the scores of `count` parts of attention, without their values. */
export function scoreParts(job: Attention, count: i32): void {
  share(SCORES, changetype<usize>(job), count);
}

/** Attention of many rows over lists of their own, in `parts` parts. */
export function attendLists(job: usize, parts: i32): void {
  share(LISTS, job, parts);
}

/** Takes the best of more scores into lists, in `parts` parts. */
export function keepNearest(job: usize, parts: i32): void {
  share(NEAREST, job, parts);
}
