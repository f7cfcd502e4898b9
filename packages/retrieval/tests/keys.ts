/** Numbers between 0 and 1 that look random, the same for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Keys [n, D] as a model has them: a direction that all share, clusters around it, and a few long ones. Inner products
 * of such keys say little about which are near each other.
 */
export function clusteredKeys(count: number, dimension: number, seed: number): Float32Array {
  const random = randomNumbers(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const shared = Array.from({ length: dimension }, () => 2 * normal());
  const clusters = Array.from({ length: 20 }, () => Array.from({ length: dimension }, normal));
  const keys = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++) {
    const cluster = clusters[Math.floor(20 * random())];
    const length = random() < 0.01 ? 1.5 : 1;
    for (let i = 0; i < dimension; i++) keys[row * dimension + i] = length * (shared[i] + cluster[i] + 0.4 * normal());
  }
  return keys;
}

/** Queries, each in a direction of its own, mostly against the one that keys share. */
export function queriesFor(count: number, dimension: number, seed: number): Float32Array[] {
  const all = clusteredKeys(count, dimension, seed);
  const random = randomNumbers(seed + 1);
  return Array.from({ length: count }, (_, row) =>
    all.slice(row * dimension, (row + 1) * dimension).map((value) => value * (2 * random() - 1.5)),
  );
}

/** The tokens first, first + 1, … with the largest q · k in float64, best first; ties to the smaller token. */
export function bestTokens(query: Float32Array, keys: Float32Array, first: number, count: number): number[] {
  const dimension = query.length;
  const scores = Array.from({ length: keys.length / dimension }, (_, row) =>
    query.reduce((sum, value, i) => sum + value * keys[row * dimension + i], 0),
  );
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).map((row) => first + row);
}

/** The share of `best` that was found. */
export function recall(found: ArrayLike<number>, best: readonly number[]): number {
  const all = new Set(Array.from(found));
  return best.filter((token) => all.has(token)).length / best.length;
}
