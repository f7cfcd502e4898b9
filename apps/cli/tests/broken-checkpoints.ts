import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LLAMA } from "./command-line.ts";

type Json = Record<string, unknown>;

/** A copy of the golden Llama under a new name, to be damaged. */
function copy(folder: string, name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  for (const file of ["config.json", "model.safetensors"]) cpSync(join(LLAMA, file), join(path, file));
  return path;
}

/** The golden Llama with another config. */
export function withConfig(folder: string, name: string, change: (config: Json) => void): string {
  const path = copy(folder, name);
  const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8")) as Json;
  change(config);
  writeFileSync(join(path, "config.json"), JSON.stringify(config));
  return path;
}

/** The golden Llama with other bytes of weights. */
export function withBytes(folder: string, name: string, change: (bytes: Buffer) => Buffer): string {
  const path = copy(folder, name);
  const file = join(path, "model.safetensors");
  writeFileSync(file, change(readFileSync(file)));
  return path;
}

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The golden Llama with a safetensors header that says something else of one tensor. */
export function withHeader(folder: string, name: string, tensor: string, change: (entry: HeaderEntry) => void): string {
  return withBytes(folder, name, (bytes) => {
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Record<string, HeaderEntry>;
    change(header[tensor]);
    const text = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    return Buffer.concat([prefix, text, bytes.subarray(8 + length)]);
  });
}
