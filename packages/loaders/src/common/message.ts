/** How an error message shows a value of a file, cut to `limit` characters. */
export function shown(value: unknown, limit: number = 60): string {
  // JSON.stringify writes NaN as null, and throws on a bigint.
  const text =
    value === undefined
      ? "missing"
      : typeof value === "bigint" || typeof value === "number"
        ? String(value)
        : (JSON.stringify(value) ?? typeof value);
  return text.length > limit ? `${text.slice(0, limit - 3)}...` : text;
}

/** The first line of a thrown error's message, without its full stop. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return (text.split("\n", 1)[0] ?? "").trim().replace(/\.$/, "").slice(0, 300);
}
