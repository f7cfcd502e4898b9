import type { Summary } from "./summary.ts";

const COLUMNS = [
  "method",
  "length",
  "depth",
  "samples",
  "right",
  "errors",
  "accuracy",
  "low",
  "high",
  "logprob_first",
] as const;

/** The cells of the grid as CSV (RFC 4180), one line a method, length and depth. */
export function cellsCsv({ cells }: Summary): string {
  const lines = cells.map((cell) => COLUMNS.map((column) => quoted(cell[column])).join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\r\n");
}

function quoted(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
