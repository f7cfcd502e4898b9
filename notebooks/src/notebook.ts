import { mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { LongctxError } from "longctx";

/** The results of a notebook: a page of Markdown and its pictures, in one folder. */
export interface Notebook<Option extends string> {
  /** Where the results go. */
  readonly folder: string;
  /** What was given on the command line as `--name value`. */
  readonly options: Readonly<Partial<Record<Option, string>>>;
  /** A paragraph of the page; printed too. */
  say(markdown: string): void;
  /** A table of the page; the first row is its head. */
  table(rows: readonly (readonly (string | number)[])[]): void;
  /** A picture of the page, an SVG. */
  figure(name: string, svg: string): void;
  /** Writes the page. */
  close(): void;
}

/** The notebook at `url`; its results go to results/NAME beside it, or to `--out`. Bad input ends it with a line. */
export function openNotebook<Option extends string = never>(
  url: string,
  names: readonly Option[] = [],
): Notebook<Option> {
  process.once("uncaughtException", (error) => {
    process.stderr.write(`${error instanceof LongctxError ? error.message : error.stack}\n`);
    process.exit(1);
  });
  const path = fileURLToPath(url);
  const name = basename(path, ".ts");
  const { out, ...options } = readOptions<Option>(["out", ...names]);
  // pnpm runs scripts in the package's folder; paths are relative to where the user is.
  const folder = out ? resolve(process.env["INIT_CWD"] ?? ".", out) : join(dirname(path), "results", name);
  mkdirSync(folder, { recursive: true });
  const page: string[] = [`# ${name}`, `Written by [${name}.ts](../../${name}.ts).`];
  const add = (paragraph: string): void => {
    page.push(paragraph);
    process.stdout.write(`${paragraph}\n\n`);
  };
  return {
    folder,
    options: options as Notebook<Option>["options"],
    say: add,
    table: ([head, ...rows]) =>
      add([head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n")),
    figure: (figure, svg) => {
      writeFileSync(join(folder, `${figure}.svg`), svg);
      page.push(`![${figure}](${figure}.svg)`);
      process.stdout.write(`(${figure}.svg)\n\n`);
    },
    close: () => writeFileSync(join(folder, "README.md"), `${page.join("\n\n")}\n`),
  };
}

function readOptions<Option extends string>(
  names: readonly (Option | "out")[],
): Partial<Record<Option | "out", string>> {
  try {
    const options = Object.fromEntries(names.map((name) => [name, { type: "string" }] as const));
    return parseArgs({ options }).values as Partial<Record<Option | "out", string>>;
  } catch (error) {
    const wanted = names.map((name) => `--${name}`).join(", ");
    throw new LongctxError("argument", `${(error as Error).message.split(". ")[0]}. The notebook takes ${wanted}.`);
  }
}

/** A whole number of at least 1 out of an option. @throws LongctxError "argument" */
export function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new LongctxError("argument", `--${option} is "${text}", but has to be a whole number of at least 1.`);
}
