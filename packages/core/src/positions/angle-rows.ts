/** cos and sin [d/2] of one position. */
export interface AngleRow {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/** Positions in a row, of which the first alone is computed from nothing. */
const RESTART = 64;
/** Distances that are remembered: those within a row, and as many again for rules that jump. */
const REMEMBERED = 4 * RESTART;
/** Fractions of a position are rounded to this many, so that distances repeat; 2⁻³³ is far below what float32 keeps. */
const FRACTIONS = 2 ** 32;

/**
 * cos and sin of p · θ_i, i < d/2, for one position p after another; `inverse` is θ, radians a position. Math.cos and
 * Math.sin would be most of what turning the keys of a text costs, so they are asked for one position a of 64, and for
 * the distances b from it, which soon repeat: cos(a + b) = cos a · cos b − sin a · sin b, in float64. No error is handed
 * on: each row has that of its two factors and three roundings.
 */
export class AngleRows {
  readonly #inverse: Float64Array;
  readonly #distances = new Map<number, AngleRow>();
  readonly #first: AngleRow;
  readonly #sum: AngleRow;
  #origin = 0;
  /** Positions since the first. */
  #count = 0;

  constructor(inverse: Float64Array) {
    this.#inverse = inverse;
    this.#first = emptyRow(inverse.length);
    this.#sum = emptyRow(inverse.length);
  }

  /** Valid until the next one. */
  at(position: number): AngleRow {
    if (this.#count === 0) {
      this.#origin = position;
      computeRow(this.#inverse, position, this.#first);
    }
    this.#count = (this.#count + 1) % RESTART;
    const distance = rounded(position - this.#origin);
    return distance === 0 ? this.#first : product(this.#first, this.#ofDistance(distance), this.#sum);
  }

  #ofDistance(distance: number): AngleRow {
    const known = this.#distances.get(distance);
    if (known) return known;
    const row = emptyRow(this.#inverse.length);
    computeRow(this.#inverse, distance, row);
    if (this.#distances.size < REMEMBERED) this.#distances.set(distance, row);
    return row;
  }
}

/** A distance of positions, to 2⁻³². */
export function rounded(distance: number): number {
  return Math.round(distance * FRACTIONS) / FRACTIONS;
}

export function emptyRow(pairs: number): AngleRow {
  return { cos: new Float64Array(pairs), sin: new Float64Array(pairs) };
}

/** By Math.cos and Math.sin. */
export function computeRow(inverse: Float64Array, position: number, { cos, sin }: AngleRow): void {
  for (let i = 0; i < inverse.length; i++) {
    const angle = position * inverse[i];
    cos[i] = Math.cos(angle);
    sin[i] = Math.sin(angle);
  }
}

/** The sum of the angles a and ±b, or their difference; `to` may be neither. */
export function product(a: AngleRow, b: AngleRow, to: AngleRow, sign: 1 | -1 = 1): AngleRow {
  for (let i = 0; i < to.cos.length; i++) {
    to.cos[i] = a.cos[i] * b.cos[i] - sign * a.sin[i] * b.sin[i];
    to.sin[i] = a.sin[i] * b.cos[i] + sign * a.cos[i] * b.sin[i];
  }
  return to;
}
