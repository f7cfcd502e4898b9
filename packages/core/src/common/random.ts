import { mersenne } from "pure-rand/generator/mersenne";

/**
 * Uniform numbers in [0, 1) with 53 bits, the same for a seed on every machine: MT19937, as numpy's `RandomState(seed)`.
 * Its seeds are hashed into the state, so that neighbouring ones have nothing in common from the first number on.
 */
export function uniformFloat64(seed: number): () => number {
  const generator = mersenne(seed);
  return () => (generator.next() >>> 5) / 2 ** 27 + (generator.next() >>> 6) / 2 ** 53;
}
