import { readFileSync, statSync } from "node:fs";
import { LongctxError } from "@longctx/core";

/** Files that specs name hold lists of a few hundred numbers. */
const MAX_BYTES = 1_000_000;

/** The content of a small JSON file that a method's spec names. @throws LongctxError "file" */
export function readJson(path: string): unknown {
  const text = readText(path);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const reason = (cause as Error).message.replaceAll(/\s+/g, " ");
    throw new LongctxError("file", `${path} is not JSON (${reason}); NaN and Infinity are not JSON either.`, { cause });
  }
}

function readText(path: string): string {
  const fail = (reason: string, cause?: unknown) => new LongctxError("file", `${path} ${reason}`, { cause });
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw fail("is not a file; give the path of a JSON file.");
    if (stat.size > MAX_BYTES)
      throw fail(`has ${stat.size} bytes, but a method's file has at most ${MAX_BYTES}; is it the right one?`);
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (cause instanceof LongctxError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw fail(
      missing ? "does not exist; give the path of a JSON file." : `cannot be read (${(cause as Error).message}).`,
      cause,
    );
  }
}
