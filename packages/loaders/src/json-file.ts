import { existsSync } from "node:fs";
import { LongctxError, type ErrorCode } from "@longctx/core";
import { ByteSource } from "./byte-source.ts";

/** The index of a model of a million tensors is below this; tokenizer files are read elsewhere. */
const MAX_JSON_BYTES = 200_000_000;

/** A JSON file that holds an object. @throws LongctxError "file" when it cannot be read, `code` when it is something else */
export function readJson(path: string, code: ErrorCode): Record<string, unknown> {
  const source = new ByteSource(path);
  let text: string;
  try {
    if (source.size > MAX_JSON_BYTES)
      throw new LongctxError(
        code,
        `${path} has ${source.size} bytes, too many for a description of a model (${MAX_JSON_BYTES}).`,
      );
    text = new TextDecoder().decode(source.read(0, source.size));
  } finally {
    source.close();
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new LongctxError(
      code,
      `${path} is not JSON: ${(cause as Error).message.replaceAll("\n", " ")}. Python's NaN and Infinity are not JSON either.`,
      { cause },
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new LongctxError(code, `${path} holds no JSON object.`);
  return value as Record<string, unknown>;
}

export function readJsonIfThere(path: string, code: ErrorCode): Record<string, unknown> | null {
  return existsSync(path) ? readJson(path, code) : null;
}
