import { createHash } from "node:crypto";

/** SHA-256 of text (as UTF-8) or bytes, 64 hex digits. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** What a content hash may be made of. */
export type Content = string | number | boolean | null | readonly Content[] | { readonly [key: string]: Content };

/** SHA-256 of a value's JSON with sorted keys: the same for equal values, however they were put together. */
export function contentHash(content: Content): string {
  return sha256(canonical(content));
}

function canonical(content: Content): string {
  if (isList(content)) return `[${content.map(canonical).join(",")}]`;
  if (content === null || typeof content !== "object") return JSON.stringify(content);
  const fields = Object.keys(content).sort();
  return `{${fields.map((key) => `${JSON.stringify(key)}:${canonical(content[key])}`).join(",")}}`;
}

function isList(content: Content): content is readonly Content[] {
  return Array.isArray(content);
}
