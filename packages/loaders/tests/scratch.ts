import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LongctxError } from "@longctx/core";
import { afterAll, expect } from "vitest";

/** A folder for a test file's own files, removed when its tests are done. */
export function scratchFolder(): { path: string; write(name: string, content: Uint8Array | string): string } {
  const path = mkdtempSync(join(tmpdir(), "longctx-loaders-"));
  afterAll(() => rmSync(path, { recursive: true }));
  return {
    path,
    write(name, content) {
      const file = join(path, name);
      writeFileSync(file, content);
      return file;
    },
  };
}

/** The one-line LongctxError that `run` throws. */
export async function refusalOf(run: () => unknown): Promise<LongctxError> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as Error).message).not.toContain("\n");
    return error as LongctxError;
  }
  throw new Error("Nothing was thrown.");
}

/** Equal bits, in large arrays: vitest's own comparison takes seconds on a model. */
export function expectSameBits(values: Float32Array, expected: Float32Array | undefined, what?: string): void {
  const [a, b] = [values, expected ?? new Float32Array()].map((array) =>
    Buffer.from(array.buffer, array.byteOffset, array.byteLength),
  );
  expect(a.equals(b), `${what ?? "values"}: ${values.length} and ${expected?.length} values`).toBe(true);
}
