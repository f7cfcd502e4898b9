import { readFileSync } from "node:fs";

/** A file of tests/golden. */
export function golden(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`golden/${name}`, import.meta.url), "utf8"));
}
