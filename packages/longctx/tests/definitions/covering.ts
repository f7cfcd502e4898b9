/** What may vary: the values of each factor, by name. */
type Factors = Readonly<Record<string, readonly unknown[]>>;

/** A value for each factor. */
export type Row<F extends Factors> = { readonly [Name in keyof F]: F[Name][number] };

/**
 * Returns a covering array of strength 2: rows in which every value of a factor stands beside every value of every other
 * one at least once. Each row begins with a pair that is still missing and takes the values that cover most of the others,
 * of equal ones the first, so that the rows are the same in every run.
 */
export function covering<const F extends Factors>(factors: F): Row<F>[] {
  const names = Object.keys(factors);
  const pair = (a: number, i: number, b: number, j: number) => (a < b ? `${a} ${i} ${b} ${j}` : `${b} ${j} ${a} ${i}`);
  const missing = new Set<string>();
  names.forEach((name, a) =>
    names.slice(0, a).forEach((other, b) => {
      for (const i of factors[name].keys()) for (const j of factors[other].keys()) missing.add(pair(a, i, b, j));
    }),
  );
  const rows: Row<F>[] = [];
  for (const [start] of missing.entries()) {
    const [b, j, a, i] = start.split(" ").map(Number);
    const row = new Map([
      [a, i],
      [b, j],
    ]);
    for (const [c, name] of names.entries()) {
      if (row.has(c)) continue;
      const gains = factors[name].map(
        (_, k) => [...row].filter(([d, value]) => missing.has(pair(c, k, d, value))).length,
      );
      // Values in turn where several gain as much, so that single ones do not stand in most rows.
      const largest = Math.max(...gains);
      const best = gains.flatMap((gain, k) => (gain === largest ? [k] : []));
      row.set(c, best[rows.length % best.length]);
    }
    for (const [c, k] of row) for (const [d, l] of row) if (c !== d) missing.delete(pair(c, k, d, l));
    rows.push(Object.fromEntries(names.map((name, c) => [name, factors[name][row.get(c)!]])) as Row<F>);
  }
  return rows;
}
