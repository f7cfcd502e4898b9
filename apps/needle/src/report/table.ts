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
