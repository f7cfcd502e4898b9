/** The share of the mean square that every direction gets beside what queries have of it. */
const LEAST = 0.05;

/**
 * Coordinates in which keys are as far apart as queries tell them apart. Queries of a model point elsewhere than its
 * keys, so of the directions in which two keys differ, queries look at few; a graph of keys as they are knows which keys
 * are alike, and not which are alike to a query. With L Lᵀ the mean of q qᵀ over some queries, the keys Lᵀ k are
 * |Lᵀ (k − k′)|² = the mean of (q · k − q · k′)² apart, and the queries L⁻¹ q have the same products with them as before.
 */
export class Metric {
  /** L [D, D], row by row, zero above the diagonal. */
  readonly factor: Float64Array;
  readonly #dimension: number;

  constructor(factor: Float64Array, dimension: number) {
    this.factor = factor;
    this.#dimension = dimension;
  }

  /** The coordinates for queries such as these [n, D]; null where they say nothing, being zero or no numbers. */
  static of(queries: Float32Array, dimension: number): Metric | null {
    const products = new Float64Array(dimension * dimension);
    for (let at = 0; at + dimension <= queries.length; at += dimension)
      for (let i = 0; i < dimension; i++)
        for (let j = 0; j <= i; j++) products[i * dimension + j] += queries[at + i] * queries[at + j];
    let mean = 0;
    for (let i = 0; i < dimension; i++) mean += products[i * dimension + i] / dimension;
    if (!(mean > 0 && mean < Infinity)) return null;
    for (let i = 0; i < products.length; i++) products[i] /= mean;
    for (let i = 0; i < dimension; i++) products[i * dimension + i] += LEAST;
    return new Metric(choleskyFactor(products, dimension), dimension);
  }

  /** Returns keys [n, D] in these coordinates. */
  ofKeys(keys: Float32Array): Float32Array {
    const dimension = this.#dimension;
    const moved = new Float32Array(keys.length);
    const row = new Float64Array(dimension);
    for (let at = 0; at < keys.length; at += dimension) {
      row.fill(0);
      for (let i = 0; i < dimension; i++) {
        const key = keys[at + i];
        for (let j = 0, l = i * dimension; j <= i; j++) row[j] += this.factor[l + j] * key;
      }
      moved.set(row, at);
    }
    return moved;
  }

  /** Returns a query [D] in these coordinates. */
  ofQuery(query: Float32Array): Float32Array {
    const dimension = this.#dimension;
    const moved = new Float64Array(dimension);
    for (let i = 0; i < dimension; i++) {
      let rest = query[i];
      for (let j = 0, l = i * dimension; j < i; j++) rest -= this.factor[l + j] * moved[j];
      moved[i] = rest / this.factor[i * dimension + i];
    }
    return Float32Array.from(moved);
  }
}

/** Returns L of a positive definite matrix L Lᵀ, of which the lower half is read. */
function choleskyFactor(matrix: Float64Array, dimension: number): Float64Array {
  const factor = new Float64Array(matrix.length);
  for (let i = 0; i < dimension; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = matrix[i * dimension + j];
      for (let k = 0; k < j; k++) rest -= factor[i * dimension + k] * factor[j * dimension + k];
      factor[i * dimension + j] = i === j ? Math.sqrt(rest) : rest / factor[j * dimension + j];
    }
  }
  return factor;
}
