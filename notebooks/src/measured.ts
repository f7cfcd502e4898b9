import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LongctxError } from "longctx";

/** What a measurement depends on, in an order that stays: names and numbers. */
export type MeasuredIdentity = Readonly<Record<string, string | number>>;

/** What an earlier run has measured; null when it has not. @throws LongctxError "file" */
export function readMeasured(folder: string, identity: MeasuredIdentity): unknown {
  const path = pathOf(folder, identity);
  if (!existsSync(path)) return null;
  try {
    const { measured, ...of } = JSON.parse(readFileSync(path, "utf8")) as { readonly measured?: unknown };
    if (measured !== undefined && JSON.stringify(of) === JSON.stringify(identity)) return measured;
  } catch {
    // Said below.
  }
  throw new LongctxError(
    "file",
    `${path} is not what this notebook has written for these options; remove it, or give another --out.`,
  );
}

/** Keeps what was measured; the file is there whole or not at all. */
export function writeMeasured(folder: string, identity: MeasuredIdentity, measured: unknown): void {
  const path = pathOf(folder, identity);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(`${path}.part`, `${JSON.stringify({ ...identity, measured }, null, 1)}\n`);
  renameSync(`${path}.part`, path);
}

/** A name for each identity. */
function pathOf(folder: string, identity: MeasuredIdentity): string {
  const name = Object.values(identity).join("_");
  return join(folder, "data", `${name.replaceAll(/[^\w.,=+-]/g, "-")}.json`);
}
