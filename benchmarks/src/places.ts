import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/** The page with the tables. */
export const DOCUMENT = path("../../docs/benchmarks.md");

/** Where runs that can be continued are kept; git does not see it. */
export const RUNS = path("../runs/");

export function novelText(): string {
  return path("../../packages/tasks/texts/prideprejudice.txt");
}

/** Into results/, with numbers as precise as measurements are. */
export function writeResult(name: string, result: object): void {
  const text = JSON.stringify(
    result,
    (_, value: unknown) => (typeof value === "number" ? Number(value.toPrecision(6)) : value),
    1,
  );
  writeFileSync(path(`../results/${name}.json`), `${text}\n`);
}

/** What `writeResult` wrote last; null if there is none. */
export function readResult(name: string): Readonly<Record<string, unknown>> | null {
  const file = path(`../results/${name}.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>) : null;
}
