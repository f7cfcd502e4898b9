import type { ChalkInstance } from "chalk";
import Table from "cli-table3";
import { lengthName } from "./names.ts";
import type { Comparison, LengthScore, Summary } from "./summary.ts";

/** Accuracy of each method at each length, depths together, with the 95 % Wilson interval below it. */
export function accuracyTable(summary: Summary, chalk: ChalkInstance): string {
  const { run, by_length: scores } = summary;
  const table = new Table({
    head: [
      "method",
      ...run.lengths.map((length) => `${lengthName(length)}${length > run.trained_window ? "" : " ≤T"}`),
    ].map((name) => chalk.bold(name)),
    colAligns: ["left", ...run.lengths.map(() => "right" as const)],
    style: { head: [], border: chalk.level > 0 ? ["gray"] : [] },
  });
  for (const method of run.methods) {
    const row = run.lengths.map((length) =>
      scores.find((score) => score.method === method && score.length === length)!,
    );
    table.push([method, ...row.map((score) => shown(score, chalk))]);
  }
  return table.toString();
}

function shown({ accuracy, low, high, errors }: LengthScore, chalk: ChalkInstance): string {
  if (accuracy === null) return "–";
  const value = accuracy.toFixed(2);
  const painted = accuracy >= 0.9 ? chalk.green(value) : accuracy < 0.5 ? chalk.red(value) : chalk.yellow(value);
  return `${painted}${errors > 0 ? chalk.red(` ${errors}!`) : ""}\n${chalk.dim(`${low.toFixed(2)}–${high.toFixed(2)}`)}`;
}

/** A line a method: how it differs from the baseline over all lengths. */
export function comparisonLines({ run, comparisons }: Summary): string[] {
  const pooled = comparisons.filter(({ length }) => length === null);
  const width = Math.max(0, ...pooled.map(({ method }) => method.length));
  return pooled.map(
    (comparison) =>
      `${comparison.method.padEnd(width)}  ${difference(comparison)}, ${chance(comparison)} (${comparison.onlyFirst} gained, ${comparison.onlySecond} lost against ${run.baseline})`,
  );
}

function difference({ difference: value, low, high }: Comparison): string {
  return `${signed(value)} [${signed(low)}, ${signed(high)}]`;
}

function signed(value: number): string {
  return value
    .toFixed(2)
    .replace(/^(?!-)/, "+")
    .replace(/^-0\.00$/, "+0.00")
    .replace("-", "−");
}

function chance({ p_holm: p }: Comparison): string {
  return p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
}

/** A line for each method and length that fetched something: how much of the needle it fetched. */
export function retrievedLines({ run, retrieved = [] }: Summary): string[] {
  const width = Math.max(0, ...retrieved.map(({ method }) => method.length));
  const length = Math.max(0, ...run.lengths.map((tokens) => lengthName(tokens).length));
  return retrieved.map((share) => {
    const of = (asking: "question" | "answer") => {
      const layers = share[asking];
      if (layers.length === 0) return `${asking} –`;
      const best = layers.reduce((a, b) => (b.best_head > a.best_head ? b : a));
      const mean = (name: "mean" | "shown") => layers.reduce((sum, layer) => sum + layer[name], 0) / layers.length;
      return `${asking} ${mean("mean").toFixed(2)}, layer ${best.layer} ${best.best_head.toFixed(2)}, seen without ${mean("shown").toFixed(2)}`;
    };
    return `${share.method.padEnd(width)}  ${lengthName(share.length).padStart(length)}  ${of("question")}; ${of("answer")}`;
  });
}
