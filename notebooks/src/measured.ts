import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BlockLoss } from "@longctx/tasks";
import { LongctxError } from "longctx";

/** What the losses of a text depend on. */
export interface MeasuredIdentity {
  readonly model: string;
  readonly text: string;
  readonly method: string;
  /** Tokens. */
  readonly length: number;
  readonly block: number;
  readonly device: string;
  readonly precision: string;
}

/** The losses that an earlier run has measured; null when it has not. @throws LongctxError "file" */
export function readMeasured(folder: string, identity: MeasuredIdentity): readonly BlockLoss[] | null {
  const path = pathOf(folder, identity);
  if (!existsSync(path)) return null;
  try {
    const { blocks, ...of } = JSON.parse(readFileSync(path, "utf8")) as MeasuredIdentity & { blocks: BlockLoss[] };
    if (JSON.stringify(of) === JSON.stringify(identity) && Array.isArray(blocks)) return blocks;
  } catch {
    // Said below.
  }
  throw new LongctxError(
    "file",
    `${path} is not what this notebook has written for these options; remove it, or give another --out.`,
  );
}

/** Keeps losses; the file is there whole or not at all. */
export function writeMeasured(folder: string, identity: MeasuredIdentity, blocks: readonly BlockLoss[]): void {
  const path = pathOf(folder, identity);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(`${path}.part`, `${JSON.stringify({ ...identity, blocks }, null, 1)}\n`);
  renameSync(`${path}.part`, path);
}

/** A name for each identity. */
function pathOf(folder: string, { model, text, method, length, block, device, precision }: MeasuredIdentity): string {
  const name = [model, text, method, length, block, device, precision].join("_");
  return join(folder, "data", `${name.replaceAll(/[^\w.,=+-]/g, "-")}.json`);
}
