/** The cosines and sines [d/2] of the rotary angles at one position, one for each rotary pair. */
export interface AngleRow {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/**
 * The number of successive positions that share an origin: their angles are the origin's angle plus a small distance's
 * angle.
 */
const POSITIONS_AN_ORIGIN = 64;
/** The number of position differences whose cosines and sines are cached: four times the 64 positions that follow one exactly computed position, because some position rules skip positions. */
const KEPT_DISTANCES = 4 * POSITIONS_AN_ORIGIN;
/**
 * Distances are rounded to multiples of 2⁻³², so that equal distances are equal as cache keys; the error is far below
 * float32's precision.
 */
const STEPS_A_POSITION = 2 ** 32;

/**
 * Computes cos and sin of p · θ_i for one position p after another; `inverse` is θ [d/2], radians a position. Math.cos
 * and Math.sin are slow, so they are called only for an origin a every 64 positions and for distances b from an origin,
 * which repeat and are cached. Every other row follows from the angle addition cos(a + b) = cos a · cos b − sin a · sin
 * b in float64. Rounding errors do not accumulate, because no sum is computed from another sum.
 */
export class AngleRows {
  readonly #inverse: Float64Array;
  readonly #distances = new Map<number, AngleRow>();
  readonly #originRow: AngleRow;
  readonly #sum: AngleRow;
  #origin = 0;
  /** The number of positions asked for since the origin was set; the next origin is set after 64 of them. */
  #count = 0;

  constructor(inverse: Float64Array) {
    this.#inverse = inverse;
    this.#originRow = emptyRow(inverse.length);
    this.#sum = emptyRow(inverse.length);
  }

  /** Returns the cosines and sines at a position, in a buffer that the next call overwrites. */
  at(position: number): AngleRow {
    if (this.#count === 0) {
      this.#origin = position;
      computeRow(this.#inverse, position, this.#originRow);
    }
    this.#count = (this.#count + 1) % POSITIONS_AN_ORIGIN;
    const distance = rounded(position - this.#origin);
    return distance === 0 ? this.#originRow : addAngles(this.#originRow, this.#ofDistance(distance), this.#sum);
  }

  #ofDistance(distance: number): AngleRow {
    const known = this.#distances.get(distance);
    if (known) return known;
    const row = emptyRow(this.#inverse.length);
    computeRow(this.#inverse, distance, row);
    if (this.#distances.size < KEPT_DISTANCES) this.#distances.set(distance, row);
    return row;
  }
}

/** Rounds a distance between two positions to a multiple of 2⁻³². */
export function rounded(distance: number): number {
  return Math.round(distance * STEPS_A_POSITION) / STEPS_A_POSITION;
}

/** Allocates a row of cosines and sines for a number of rotary pairs. */
export function emptyRow(pairs: number): AngleRow {
  return { cos: new Float64Array(pairs), sin: new Float64Array(pairs) };
}

/** Computes the cosines and sines at a position with Math.cos and Math.sin and writes them to the given row. */
export function computeRow(inverse: Float64Array, position: number, { cos, sin }: AngleRow): void {
  for (let i = 0; i < inverse.length; i++) {
    const angle = position * inverse[i];
    cos[i] = Math.cos(angle);
    sin[i] = Math.sin(angle);
  }
}

/** Writes the cosines and sines of the angles a + b to the row `to`, or of a − b where `sign` is −1. */
export function addAngles(a: AngleRow, b: AngleRow, to: AngleRow, sign: 1 | -1 = 1): AngleRow {
  for (let i = 0; i < to.cos.length; i++) {
    to.cos[i] = a.cos[i] * b.cos[i] - sign * a.sin[i] * b.sin[i];
    to.sin[i] = a.sin[i] * b.cos[i] + sign * a.cos[i] * b.sin[i];
  }
  return to;
}
