import { listed, type MethodDefinition, type ParameterDefinition } from "longctx";

/** docs/methods.md: everything the registry knows, so that no page can fall behind it. */
export function methodsMarkdown(
  rows: readonly MethodDefinition[],
  conflictsOf: (row: MethodDefinition) => Readonly<Record<string, string>>,
): string {
  return [
    "# Methods",
    "",
    "Written by `longctx methods --markdown`; a test compares. Axes: frequencies h(i), distance g(t), visibility V, memory M, temperature τ. T is the trained window, m the index of a query in the text, n that of a key, d the rotary size, b the base, θ_i = b^(−2i/d).",
    "",
    "| method | axes | |",
    "|---|---|---|",
    ...rows.map(
      (row) => `| [\`${spelling(row)}\`](#${row.name}) | ${row.axes.join(", ") || "none"} | ${row.summary} |`,
    ),
    ...rows.flatMap((row) => ["", ...section(row, conflictsOf(row))]),
    "",
  ].join("\n");
}

function spelling({ name, parameters }: MethodDefinition): string {
  const keys = Object.keys(parameters);
  return keys.length > 0 ? `${name}:${keys.join(",")}` : name;
}

function section(row: MethodDefinition, conflicts: Readonly<Record<string, string>>): string[] {
  const parameters = Object.entries(row.parameters);
  return [
    `## ${row.name}`,
    "",
    `${row.summary} Axes: ${row.axes.join(", ") || "none"}. Source: ${row.paper}.`,
    ...(parameters.length > 0 ? ["", "| parameter | unit | default | |", "|---|---|---|---|"] : []),
    ...parameters.map(
      ([key, parameter]) =>
        `| \`${key}\` | ${range(parameter)} | ${parameter.default ?? "needed"} | ${parameter.about} |`,
    ),
    "",
    `Deviations: ${row.deviations}`,
    ...Object.entries(conflicts).flatMap(([other, reason]) => ["", `Not with \`${other}\`: ${reason}.`]),
  ];
}

function range(parameter: ParameterDefinition): string {
  if (!("min" in parameter || "max" in parameter)) return kindOf(parameter);
  const { min, max } = parameter;
  return [kindOf(parameter), min === undefined ? "" : `≥ ${min}`, max === undefined ? "" : `≤ ${max}`]
    .filter((part) => part !== "")
    .join(", ");
}

/** What a parameter's value is: a unit, a few words, or a file. */
export function kindOf(parameter: ParameterDefinition): string {
  if (parameter.unit === "choice") return listed(parameter.choices);
  if (parameter.unit === "file") return "JSON file";
  return parameter.unit === "flag" ? "0 or 1" : parameter.unit;
}
