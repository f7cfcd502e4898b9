import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ModelConfig, Weights } from "@longctx/core";
import { readCheckpoint } from "./read-checkpoint.ts";
import { readSafetensors } from "./read-safetensors.ts";

const FOLDER = fileURLToPath(new URL("golden/", import.meta.url));

/** A checkpoint and what transformers computed with it, see golden/README.md. */
export interface Golden {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly cases: readonly { readonly ids: readonly number[]; readonly logits: Float32Array }[];
  readonly prompt: readonly number[];
  readonly greedy: readonly number[];
}

export function goldenNames(): string[] {
  return readdirSync(FOLDER, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

export function readGolden(name: string): Golden {
  const expected = readSafetensors(`${FOLDER}${name}/expected.safetensors`);
  const ids = (tensor: string) => [...new Int32Array(expected.get(tensor)!.bytes.buffer)];
  const logits = (tensor: string) => new Float32Array(expected.get(tensor)!.bytes.buffer);
  return {
    ...readCheckpoint(`${FOLDER}${name}`),
    cases: [48, 160].map((length) => ({ ids: ids(`input_ids_${length}`), logits: logits(`logits_${length}`) })),
    prompt: ids("prompt_ids"),
    greedy: ids("greedy_ids"),
  };
}
