import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Uniform numbers in [0, 1) with 53 bits, the same for a seed on every machine. */
export function uniformFloat64(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  return () => (generator.next() >>> 5) / 2 ** 27 + (generator.next() >>> 6) / 2 ** 53;
}
