import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { cacheDirectory } from "@longctx/loaders";
import { LongctxError } from "@longctx/core";

/** Larger files are none of ours. */
const MOST_BYTES = 2 ** 20;

/** Where `longctx tune` keeps what it found on an adapter: LONGCTX_TUNING, else a file of the cache directory. */
export function tuningFile(adapter: string): string {
  const named = process.env["LONGCTX_TUNING"];
  if (named) return resolve(named);
  const words = adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return join(cacheDirectory(), "webgpu", `${words.slice(0, 80).replace(/^-|-$/g, "")}-${checksum(adapter)}.json`);
}

/** What is stored for an adapter; null where there is nothing. @throws LongctxError "file" */
export function readTuning(adapter: string): unknown {
  const path = tuningFile(adapter);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    if (missing && !process.env["LONGCTX_TUNING"]) return null;
    throw new LongctxError("file", `${path} cannot be read (${String(cause)}); run \`longctx tune\`.`, { cause });
  }
  try {
    if (text.length > MOST_BYTES) throw new Error(`${text.length} bytes`);
    return JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new LongctxError("file", `${path} is no stored tuning (${why}); run \`longctx tune\` again.`, { cause });
  }
}

/** Replaces what is stored as a whole. @returns the file */
export function writeTuning(adapter: string, record: Readonly<Record<string, unknown>>): string {
  const path = tuningFile(adapter);
  mkdirSync(join(path, ".."), { recursive: true });
  const unfinished = `${path}.${process.pid}.tmp`;
  writeFileSync(unfinished, `${JSON.stringify(record, null, 1)}\n`);
  renameSync(unfinished, path);
  return path;
}

/** FNV-1a: adapters whose names have the same letters keep files of their own. */
function checksum(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}
