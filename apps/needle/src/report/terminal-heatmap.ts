import { Chalk, type ColorSupportLevel } from "chalk";
import { scheme } from "vega";
import { lengthName } from "./names.ts";
import type { CellScore, Summary } from "./summary.ts";

const CELL = 6;
const GAP = "   ";
/** Longer method names are cut. */
const LONGEST_NAME = 34;

/**
 * The run's small multiples for a terminal of `columns` characters: a block a method, depth down, length across, as
 * many blocks side by side as fit. Numbers carry it all, so it reads without colours (level 0) too.
 */
export function terminalHeatmap(summary: Summary, columns: number, level: ColorSupportLevel): string {
  const chalk = new Chalk({ level });
  const blocks = summary.run.methods.map((method) => block(summary, method, chalk));
  const across = Math.max(1, Math.floor((columns + GAP.length) / (blocks[0].width + GAP.length)));
  const rows: string[] = [];
  for (let from = 0; from < blocks.length; from += across) {
    const side = blocks.slice(from, from + across);
    for (let line = 0; line < side[0].lines.length; line++)
      rows.push(
        side
          .map(({ lines }) => lines[line])
          .join(GAP)
          .trimEnd(),
      );
    rows.push("");
  }
  return rows.join("\n");
}

interface Block {
  readonly width: number;
  readonly lines: readonly string[];
}

function block({ run, cells }: Summary, method: string, chalk: InstanceType<typeof Chalk>): Block {
  const label = Math.max(...run.depths.map((depth) => `${depth} %`.length));
  const grid = label + 1 + CELL * run.lengths.length;
  const width = Math.max(grid, Math.min(LONGEST_NAME, Math.max(...run.methods.map((spec) => spec.length))));
  const rest = " ".repeat(width - grid);
  const name = method.length > width ? `${method.slice(0, width - 1)}…` : method.padEnd(width);
  const lines = [
    chalk.bold(name),
    chalk.dim(
      " ".repeat(label + 1) +
        run.lengths
          .map((length) =>
            lengthName(length)
              .padStart(CELL - 1)
              .padEnd(CELL),
          )
          .join(""),
    ) + rest,
  ];
  for (const depth of run.depths) {
    const row = run.lengths.map((length) =>
      cells.find((cell) => cell.method === method && cell.length === length && cell.depth === depth)!,
    );
    lines.push(`${chalk.dim(`${depth} %`.padStart(label))} ${row.map((cell) => painted(cell, chalk)).join("")}${rest}`);
  }
  return { width, lines };
}

function painted({ accuracy }: CellScore, chalk: InstanceType<typeof Chalk>): string {
  if (accuracy === null) return chalk.dim("–".padStart(CELL - 1).padEnd(CELL));
  const text = accuracy
    .toFixed(2)
    .padStart(CELL - 1)
    .padEnd(CELL);
  const [red, green, blue] = colourOf(accuracy);
  return (accuracy < 0.6 ? chalk.rgb(255, 255, 255) : chalk.rgb(27, 27, 31)).bgRgb(red, green, blue)(text);
}

/** The colours of the SVG: vega's viridis, which reads the same to the colour-blind and in grey. */
function colourOf(share: number): [number, number, number] {
  const interpolate = scheme("viridis") as (share: number) => string;
  const [red = 0, green = 0, blue = 0] = (/\d+, \d+, \d+/.exec(interpolate(share))?.[0] ?? "").split(", ").map(Number);
  return [red, green, blue];
}
