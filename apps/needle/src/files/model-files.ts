import { createHash } from "node:crypto";
import { createReadStream, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { contentHash } from "@longctx/tasks";

/** What a folder's model consists of; a read-me beside it changes nothing. */
const PARTS =
  /\.safetensors$|\.safetensors\.index\.json$|^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json$|^tokenizer\.model$/;

/** SHA-256 of a checkpoint's file, or of the hashes of the files in its folder. */
export async function modelHash(path: string): Promise<string> {
  const folder = statSync(path).isDirectory() ? path : path.endsWith(".safetensors") ? dirname(path) : null;
  if (folder === null) return fileHash(path);
  const hashes: Record<string, string> = {};
  for (const file of readdirSync(folder)
    .filter((name) => PARTS.test(name))
    .sort())
    hashes[basename(file)] = await fileHash(join(folder, file));
  return contentHash(hashes);
}

async function fileHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}
