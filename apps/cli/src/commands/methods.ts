import type { Command } from "commander";
import { axisOf, exampleMethod, methods, refusal, type MethodDefinition } from "longctx";
import { createColors } from "picocolors";
import { readText } from "../files.ts";
import { columns } from "../format.ts";
import type { Io } from "../io.ts";
import { axesOf, kindOf, methodsMarkdown, readMeasured } from "../methods-markdown.ts";

interface MethodsOptions {
  readonly json?: true;
  readonly markdown?: true;
  readonly measured?: string;
  readonly images?: string;
}

export function addMethods(program: Command, io: Io): void {
  program
    .command("methods")
    .description("every method: axes, definition, parameters, conflicts, paper")
    .option("--json")
    .option("--markdown", "as docs/methods.md")
    .option("--measured <file>", "with --markdown: a page with a section (## NAME) for what was measured of a method")
    .option("--images <folder>", "with --markdown: where the page finds the pictures of `longctx draw --all`")
    .action(async (options: MethodsOptions) => {
      if (options.markdown) io.out(await page(options));
      else if (options.json) io.out(`${JSON.stringify(methods.rows.map(describe), null, 2)}\n`);
      else io.out(methods.rows.map((row) => listing(row, io)).join("\n"));
    });
}

async function page({ measured: path, images }: MethodsOptions): Promise<string> {
  const { rows } = methods;
  const names = rows.map((row) => row.name);
  const measured = path === undefined ? undefined : readMeasured(path, await readText(path), names);
  return methodsMarkdown({ rows, conflictsOf, measured, images });
}

function describe(row: MethodDefinition): object {
  const { name, axes, summary, definition, paper, deviations, parameters } = row;
  const conditions = axes.flatMap((claim) => (typeof claim === "string" ? [] : [[claim.axis, claim.when] as const]));
  return {
    name,
    axes: axes.map(axisOf),
    conditionalAxes: conditions.length > 0 ? Object.fromEntries(conditions) : undefined,
    summary,
    definition,
    parameters,
    conflicts: conflictsOf(row),
    paper,
    deviations,
  };
}

/** What a method refuses and what refuses it, beyond the axes; known to an instance, whatever its parameters. */
export function conflictsOf(row: MethodDefinition): Readonly<Record<string, string>> {
  const method = exampleMethod(row);
  const refused = methods.rows.flatMap((other) => {
    const reason = refusal(method, exampleMethod(other)) ?? refusal(exampleMethod(other), method);
    return reason === undefined ? [] : [[other.name, reason] as const];
  });
  return Object.fromEntries(refused);
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
  return `${colors.bold(row.name)} (axes: ${axesOf(row)}): ${row.summary}\n  ${row.definition}\n${columns(parameters)}${conflicts.join("")}  ${colors.dim(row.paper)}\n`;
}
