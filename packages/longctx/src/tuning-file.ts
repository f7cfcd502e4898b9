import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { cacheDirectory } from "@longctx/loaders";
import { crc32, LongctxError } from "@longctx/core";

/** Larger files are none of ours. */
const MOST_BYTES = 2 ** 20;

/** Where `longctx tune` keeps what it found on an adapter: LONGCTX_TUNING, else a file of the cache directory. */
export function tuningFile(adapter: string): string {
  const named = process.env["LONGCTX_TUNING"];
  if (named) return resolve(named);
  const words = adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  // Adapters whose names have the same letters keep files of their own.
  const checksum = crc32(new TextEncoder().encode(adapter)).toString(16).padStart(8, "0");
  return join(cacheDirectory(), "webgpu", `${words.slice(0, 80).replace(/^-|-$/g, "")}-${checksum}.json`);
}

/** What is stored for an adapter; null where there is nothing. @throws LongctxError "file" */
export function readTuning(adapter: string): unknown {
  const path = tuningFile(adapter);
  const broken = (why: string, cause?: unknown) =>
    new LongctxError("file", `${path} is no stored tuning (${why}); run \`longctx tune\` again.`, { cause });
  let text: string;
  try {
    const { size } = statSync(path);
    if (size > MOST_BYTES) throw broken(`${size} bytes`);
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (cause instanceof LongctxError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    if (missing && !process.env["LONGCTX_TUNING"]) return null;
    throw new LongctxError("file", `${path} cannot be read (${String(cause)}); run \`longctx tune\`.`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw broken((cause as Error).message, cause);
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
