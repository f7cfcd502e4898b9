import type { LanguageModel } from "@longctx/core";
import { HEADS_FORMAT, SHAPE } from "../reader/heads-file.ts";
import type { Finding, HalvesFinding } from "./findings.ts";
import type { HeadFinding, HeadResults } from "./measure-heads.ts";

/** How heads were measured, for the record. */
export interface HeadsMeasured {
  /** The name of the model, for people. */
  readonly name: string;
  readonly length: number;
  readonly seed: number;
  readonly kinds: readonly string[];
  /** The methods' spec, "none" for the plain model. */
  readonly method: string;
}

/** Single heads that are written as sets, with their findings in both halves and by kind. */
const DETAILED = 16;

/**
 * Writes results as a heads file, which `readHeads` takes: JSON with a line for each set and each head, both in order of
 * what they find in the half they are chosen by. Sets are the best single heads, pairs, and larger ones; their findings are
 * [prompts, share of rank 1, median margin, worst margin]. All heads follow with what they find in the half held out.
 */
export function writeHeads(
  { config, weightsChecksum, backend }: Pick<LanguageModel, "config" | "weightsChecksum" | "backend">,
  { name, length, seed, kinds, method }: HeadsMeasured,
  { read, planned, phrase, best, sets, heads }: HeadResults,
): string {
  const shape = Object.fromEntries(SHAPE.map((size) => [size, config[size]]));
  const { device, precision } = backend;
  const singles = heads.slice(0, DETAILED).map(({ head, ...finding }) => ({ heads: [head], ...finding }));
  const lines = (rows: readonly object[]) => `[\n${rows.map((row) => `    ${JSON.stringify(row)}`).join(",\n")}\n  ]`;
  const fields = [
    ["format", JSON.stringify(HEADS_FORMAT)],
    ["model", JSON.stringify({ name, ...shape, weights: weightsChecksum })],
    ["measured", JSON.stringify({ prompts: read, planned, length, phrase, seed, kinds, method, device, precision })],
    ["best", JSON.stringify(best)],
    ["sets", lines([...singles, ...sets].map((set) => ({ heads: set.heads, ...rounded(set) })))],
    ["heads", lines(heads.map(lineOf))],
  ];
  return `{\n${fields.map(([field, value]) => `  "${field}": ${value}`).join(",\n")}\n}\n`;
}

function lineOf({ head: [layer, head], heldOut: { first, median, worst } }: HeadFinding): object {
  return { layer, head, first: digits(first), median: digits(median), worst: digits(worst) };
}

function rounded({ chosen, heldOut, kinds }: HalvesFinding): object {
  const row = ({ prompts, first, median, worst }: Finding) => [prompts, digits(first), digits(median), digits(worst)];
  return {
    chosen: row(chosen),
    heldOut: row(heldOut),
    kinds: Object.fromEntries(Object.entries(kinds).map(([kind, finding]) => [kind, row(finding)])),
  };
}

/** Four digits that matter. */
function digits(value: number): number {
  return Number(value.toPrecision(4));
}
