/** The runs of consecutive tokens in an ascending list: their first tokens and their lengths in turns. */
export type Runs = Int32Array;

/**
 * Returns the runs of consecutive numbers in an ascending list. The end of a run is searched in steps that double (galloping
 * search), so that a list of whole blocks costs little.
 */
export function runsOfList(list: Int32Array): Runs {
  const runs: number[] = [];
  for (let at = 0; at < list.length;) {
    const begin = at;
    for (let step = 1; step > 0;) {
      const next = at + step;
      if (next < list.length && list[next] - list[begin] === next - begin) {
        at = next;
        step *= 2;
      } else step >>= 1;
    }
    at++;
    runs.push(list[begin], at - begin);
  }
  return Int32Array.from(runs);
}

/** The runs of lists, each list looked at once. */
export class KnownRuns {
  readonly #known = new Map<Int32Array, Runs>();

  of(list: Int32Array): Runs {
    const known = this.#known.get(list) ?? runsOfList(list);
    this.#known.set(list, known);
    return known;
  }
}
