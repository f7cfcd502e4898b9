import type { Command } from "commander";
import { exampleMethod, methods, type MethodDefinition } from "longctx";
import { createColors } from "picocolors";
import { columns } from "../format.ts";
import type { Io } from "../io.ts";
import { kindOf, methodsMarkdown } from "../methods-markdown.ts";

export function addMethods(program: Command, io: Io): void {
  program
    .command("methods")
    .description("every method: axes, parameters, conflicts, paper")
    .option("--json")
    .option("--markdown", "as docs/methods.md")
    .action((options: { readonly json?: true; readonly markdown?: true }) => {
      if (options.markdown) io.out(methodsMarkdown(methods.rows, conflictsOf));
      else if (options.json) io.out(`${JSON.stringify(methods.rows.map(describe), null, 2)}\n`);
      else io.out(methods.rows.map((row) => listing(row, io)).join("\n"));
    });
}

function describe(row: MethodDefinition): object {
  const { name, axes, summary, paper, deviations, parameters } = row;
  return { name, axes, summary, parameters, conflicts: conflictsOf(row), paper, deviations };
}

/** Conflicts beyond the axes are known to an instance; they do not depend on its parameters. */
export function conflictsOf(row: MethodDefinition): Readonly<Record<string, string>> {
  return exampleMethod(row).conflicts ?? {};
}

function listing(row: MethodDefinition, io: Io): string {
  const colors = createColors(io.outIsTerminal);
  const parameters = Object.entries(row.parameters).map(([key, parameter]) => [
    `  ${key}`,
    kindOf(parameter),
    parameter.default === null ? "needed" : `default ${parameter.default}`,
    parameter.about,
  ]);
  const conflicts = Object.entries(conflictsOf(row)).map(([other, reason]) => `  not with ${other}: ${reason}\n`);
  return `${colors.bold(row.name)} (${row.axes.join(", ") || "no axis"}): ${row.summary}\n${columns(parameters)}${conflicts.join("")}  ${colors.dim(row.paper)}\n`;
}
