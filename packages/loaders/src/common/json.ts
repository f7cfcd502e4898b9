import { LongctxError, type ErrorCode } from "@longctx/core";
import { readText, type Folder } from "./folder.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The largest JSON file that is read: the index of a million tensors is smaller, and so is any tokenizer.json. */
const MAX_JSON_BYTES = 200_000_000;

/**
 * The object in a JSON file.
 * @throws LongctxError "file" when it cannot be read, `code` when it holds no JSON object
 */
export async function readJson(folder: Folder, name: string, code: ErrorCode): Promise<JsonObject> {
  const text = await readText(folder, name, MAX_JSON_BYTES, code);
  const path = folder.placeOf(name);
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
  if (!isObject(value)) throw new LongctxError(code, `${path} holds no JSON object.`);
  return value;
}

/** As `readJson`; null when the folder has no such file. */
export async function readJsonIfThere(folder: Folder, name: string, code: ErrorCode): Promise<JsonObject | null> {
  return folder.names.includes(name) ? readJson(folder, name, code) : null;
}
