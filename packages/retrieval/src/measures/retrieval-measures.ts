export const MEASURE_POSITIONS = ["text", "method"] as const;

/**
 * At which positions exact attention over the whole text is computed. "text": as the model without the methods that
 * change visibility and distance, every token at its position in the text (beyond the trained window such attention is
 * one that the model was not trained for). "method": tokens that a query sees are where the method puts them, and tokens
 * that it could have fetched are where it puts those that it fetches, so that a method which fetched everything would have
 * an error of 0; only for methods that put all of them by one rule.
 */
export type MeasurePositions = (typeof MEASURE_POSITIONS)[number];

/** What one query of one head gives to the measures. */
export interface HeadRow {
  /** Which share of the true best hidden or fetched tokens was fetched, 0 to 1; null where there are none. */
  readonly recall: number | null;
  /** The attention mass of the tokens that the query sees. */
  readonly kept: number;
  /** The attention mass of the far tokens: those that the query sees only if they are fetched. */
  readonly far: number;
  /** The attention mass of the tokens that were fetched. */
  readonly fetched: number;
  /** |o − ō|² and |ō|² of the head's output o under the method and ō under full attention. */
  readonly error: number;
  readonly norm: number;
}

/**
 * The measures of a head, of a layer or of several layers: means over queries (and heads). Masses are shares of exact
 * attention over the whole text, 0 to 1.
 */
export interface RetrievalMeasure {
  /** The queries (times heads) that were measured. */
  readonly rows: number;
  /** Mean recall of the true best far tokens, 0 to 1; null where no query has far tokens. */
  readonly recall: number | null;
  /** The attention mass that was kept: that of all tokens that the queries see. */
  readonly kept: number;
  /** The attention mass of far tokens, which are seen only if they are fetched. */
  readonly far: number;
  /** Which share of the far mass was fetched; null where there is none. */
  readonly fetched: number | null;
  /** √(Σ |o − ō|² / Σ |ō|²) of outputs o under the method and ō under full attention. */
  readonly error: number;
}

/** The measures of a query head. */
export interface HeadMeasure extends RetrievalMeasure {
  readonly layer: number;
  readonly head: number;
}

/** The measures of a layer, all heads together. */
export interface LayerMeasure extends RetrievalMeasure {
  readonly layer: number;
}

/** Sums of rows, from which a measure is made. */
export class MeasureSums {
  #rows = 0;
  #recalls = 0;
  readonly #sums = { recall: 0, kept: 0, far: 0, fetched: 0, error: 0, norm: 0 };

  add({ recall, ...row }: HeadRow): void {
    this.#rows++;
    if (recall !== null) {
      this.#recalls++;
      this.#sums.recall += recall;
    }
    for (const name of ["kept", "far", "fetched", "error", "norm"] as const) this.#sums[name] += row[name];
  }

  measure(): RetrievalMeasure {
    const { recall, kept, far, fetched, error, norm } = this.#sums;
    const rows = this.#rows;
    return {
      rows,
      recall: this.#recalls > 0 ? recall / this.#recalls : null,
      kept: kept / rows,
      far: far / rows,
      fetched: far > 0 ? fetched / far : null,
      error: Math.sqrt(error / norm),
    };
  }
}
