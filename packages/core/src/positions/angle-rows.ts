/** cos and sin [d/2] of the angles that the rotary pairs have at one position. */
export interface AngleRow {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/** How many successive positions share an origin. */
const POSITIONS_AN_ORIGIN = 64;
/** How many distances from an origin have their rows kept; position rules that jump need more than one origin's 64. */
const KEPT_DISTANCES = 4 * POSITIONS_AN_ORIGIN;
/** Distances are rounded to multiples of 2⁻³², so that equal distances are equal numbers; float32 does not show it. */
const STEPS_A_POSITION = 2 ** 32;

/**
 * cos and sin of p · θ_i for one position p after another; `inverse` is θ [d/2], radians a position. Math.cos and
 * Math.sin would take most of the time that rotating the keys of a text takes. So they compute the row of an origin a,
 * anew every 64 positions, and the rows of distances b from an origin, which repeat; all other rows are sums of two
 * angles, cos(a + b) = cos a · cos b − sin a · sin b, in float64. Errors do not add up from row to row, because a sum
 * is never a term of another sum.
 */
export class AngleRows {
  readonly #inverse: Float64Array;
  readonly #distances = new Map<number, AngleRow>();
  readonly #originRow: AngleRow;
  readonly #sum: AngleRow;
  #origin = 0;
  /** Positions asked for since the origin, the origin included. */
  #count = 0;

  constructor(inverse: Float64Array) {
    this.#inverse = inverse;
    this.#originRow = emptyRow(inverse.length);
    this.#sum = emptyRow(inverse.length);
  }

  /** The row of a position; the next call overwrites it. */
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

/** A distance between two positions, rounded to a multiple of 2⁻³². */
export function rounded(distance: number): number {
  return Math.round(distance * STEPS_A_POSITION) / STEPS_A_POSITION;
}

export function emptyRow(pairs: number): AngleRow {
  return { cos: new Float64Array(pairs), sin: new Float64Array(pairs) };
}

/** Writes the row of a position, by Math.cos and Math.sin. */
export function computeRow(inverse: Float64Array, position: number, { cos, sin }: AngleRow): void {
  for (let i = 0; i < inverse.length; i++) {
    const angle = position * inverse[i];
    cos[i] = Math.cos(angle);
    sin[i] = Math.sin(angle);
  }
}

/** Writes the row of the angles a + b, or a − b where `sign` is −1, to a third row. */
export function addAngles(a: AngleRow, b: AngleRow, to: AngleRow, sign: 1 | -1 = 1): AngleRow {
  for (let i = 0; i < to.cos.length; i++) {
    to.cos[i] = a.cos[i] * b.cos[i] - sign * a.sin[i] * b.sin[i];
    to.sin[i] = a.sin[i] * b.cos[i] + sign * a.cos[i] * b.sin[i];
  }
  return to;
}
