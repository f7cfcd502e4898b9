import { mersenne } from "pure-rand/generator/mersenne";

/**
 * Makes a generator of uniform random numbers in [0, 1) with 53 random bits. It is the Mersenne Twister MT19937, seeded
 * as numpy's `RandomState(seed)` is, so a seed gives the same numbers on every machine, and neighbouring seeds give
 * unrelated ones.
 */
export function uniformFloat64(seed: number): () => number {
  const generator = mersenne(seed);
  return () => (generator.next() >>> 5) / 2 ** 27 + (generator.next() >>> 6) / 2 ** 53;
}
