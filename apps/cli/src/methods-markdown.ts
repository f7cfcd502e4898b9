import { exampleMethod, listed, LongctxError, type MethodDefinition, type ParameterDefinition } from "longctx";

export interface MethodsPage {
  readonly rows: readonly MethodDefinition[];
  readonly conflictsOf: (row: MethodDefinition) => Readonly<Record<string, string>>;
  /** By method, in Markdown. */
  readonly measured?: ReadonlyMap<string, string>;
  /** Where `longctx draw --all` has put its pictures, as seen from the page. */
  readonly images?: string;
}

/** docs/methods.md: everything the registry knows, so that no page can fall behind it. */
export function methodsMarkdown(page: MethodsPage): string {
  return [
    "# Methods",
    "",
    "Written by `pnpm docs:methods`; what is measured comes from [measured.md](measured.md), everything else from the registry, and a test compares.",
    "",
    "Letters: T is the trained window, N the length of the text, m the index of a query in the text, n that of a key, i a rotary pair, d the rotary size, b the base, θ_i = b^(−2i/d). Axes: frequencies h(i), distance g(m, n), visibility V, memory M, temperature τ. Query m meets token n at the angle g(m, n) · h(i), and its score is multiplied by τ(m).",
    "",
    "Methods are composed with `+` (`yarn:factor=4+streaming:window=1020`). Two that change the same axis are refused, and so is every pair under *Not with*. An axis with a condition behind it is changed under that condition only, and free for another method otherwise. A temperature is refused, too, on a checkpoint whose own RoPE type already sharpens the softmax (YaRN, LongRoPE), unless a frequency method takes that type's place.",
    ...(page.images === undefined
      ? []
      : [
          "",
          "Pictures (`longctx draw METHOD`): T = 4096, N = 16384, b = 10000, d = 64. On the left the distance at which query m meets token n, blank where it does not see it, red beyond T; a cell is its first token and its last query. On the right how often each rotary pair turns within T, before (grey) and after; red pairs meet angles that training never had.",
        ]),
    "",
    "| method | axes | | source |",
    "|---|---|---|---|",
    ...page.rows.map(
      (row) => `| [\`${spelling(row)}\`](#${row.name}) | ${axesOf(row)} | ${row.summary} | ${row.paper} |`,
    ),
    ...page.rows.flatMap((row) => ["", ...section(row, page)]),
    "",
  ].join("\n");
}

/** The sections of a hand-written page, by the method in their heading (`## yarn`). @throws LongctxError "file" */
export function readMeasured(path: string, text: string, names: readonly string[]): Map<string, string> {
  const [, ...sections] = text.split(/^## /m);
  const measured = new Map<string, string>();
  for (const each of sections) {
    const [heading, ...lines] = each.split("\n");
    const name = heading.trim();
    if (!names.includes(name))
      throw new LongctxError(
        "file",
        `${path} has a section "${name}", but there is no such method; there is ${listed(names)}.`,
      );
    if (measured.has(name)) throw new LongctxError("file", `${path} has two sections "${name}"; make them one.`);
    measured.set(name, lines.join("\n").trim());
  }
  return measured;
}

function spelling({ name, parameters }: MethodDefinition): string {
  const keys = Object.keys(parameters);
  return keys.length > 0 ? `${name}:${keys.join(",")}` : name;
}

/** `distance, temperature (logn=1)`: what a method can change, and under which condition on its parameters. */
export function axesOf({ axes }: MethodDefinition): string {
  return (
    axes.map((claim) => (typeof claim === "string" ? claim : `${claim.axis} (${claim.when})`)).join(", ") || "none"
  );
}

function section(row: MethodDefinition, { conflictsOf, measured, images }: MethodsPage): string[] {
  const parameters = Object.entries(row.parameters);
  const found = measured?.get(row.name) ?? "";
  return [
    `## ${row.name}`,
    "",
    `${row.summary} Axes: ${axesOf(row)}. Source: ${row.paper}.`,
    "",
    `Definition: ${row.definition}.`,
    ...(parameters.length > 0 ? ["", "| parameter | unit | default | |", "|---|---|---|---|"] : []),
    ...parameters.map(
      ([key, parameter]) =>
        `| \`${key}\` | ${range(parameter)} | ${parameter.default ?? "needed"} | ${parameter.about} |`,
    ),
    "",
    `Deviations: ${row.deviations}`,
    ...Object.entries(conflictsOf(row)).flatMap(([other, reason]) => ["", `Not with \`${other}\`: ${reason}.`]),
    ...(found === "" ? [] : ["", `Measured: ${found}`]),
    ...(images === undefined ? [] : ["", `![${exampleMethod(row).spec}](${images}/${row.name}.svg)`]),
    ...(images === undefined ? [] : parameters.flatMap(([key, parameter]) => madeUp(key, parameter))),
  ];
}

/** A file cannot be shown in the title of a picture. */
function madeUp(key: string, parameter: ParameterDefinition): string[] {
  return parameter.unit === "file" && parameter.exampleAbout
    ? ["", `The \`${key}\` of the picture are ${parameter.exampleAbout}.`]
    : [];
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
  if (parameter.unit === "layers") return "all, or layers as 10/20";
  return parameter.unit === "flag" ? "0 or 1" : parameter.unit;
}
