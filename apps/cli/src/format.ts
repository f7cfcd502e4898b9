import type { DeviceMemory } from "longctx";

/** 1536 → "1.5 KiB". */
export function bytes(size: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(size, 1)) / 10), units.length - 1);
  return power === 0 ? `${size} B` : `${(size / 1024 ** power).toFixed(1)} ${units[power]}`;
}

/** "GPU weights 98.0 MiB, cache 12.0 MiB, scratch 3.1 MiB, at most 115.2 MiB". */
export function deviceMemory({ weights, cache, scratch, peak }: DeviceMemory): string {
  return `GPU weights ${bytes(weights)}, cache ${bytes(cache)}, scratch ${bytes(scratch)}, at most ${bytes(peak)}`;
}

/** 1234567 → "1,234,567". */
export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** 1234.567 → "1,234.57"; whole numbers without decimals. */
export function decimal(value: number): string {
  return count(Number(value.toFixed(2)));
}

/** 3725 → "1 h 2 min"; 65 → "1 min 5 s"; 5 → "5 s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole} s`;
}

/** Three digits that matter: 1234.5 → "1230", 12.345 → "12.3". */
export function rate(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "-";
}

/** Rows as aligned columns: numbers to the right, texts to the left. */
export function columns(rows: readonly (readonly (string | number)[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, String(cell).length)));
  const line = (row: readonly (string | number)[]) =>
    row
      .map((cell, i) => (typeof cell === "number" ? String(cell).padStart(widths[i]) : cell.padEnd(widths[i])))
      .join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}

/** Rows as a table in Markdown; the first has the titles. */
export function markdownTable([titles, ...rows]: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |\n`;
  return [line(titles), `|${"---|".repeat(titles.length)}\n`, ...rows.map(line)].join("");
}
