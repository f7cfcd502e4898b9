export { attend } from "./attention";
export { compactKeys, compactQueries, compactValues } from "./compact";
export { addTo, multiply, normalise, silu, toIntegers } from "./products";
export { serve, stop } from "./threads";
