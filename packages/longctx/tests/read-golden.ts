import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ModelConfig, Weights } from "@longctx/core";
import { openCheckpoint } from "@longctx/loaders";

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

/** The weights are read from the open file when they are asked for; it stays open while the test process lives. */
export async function readGolden(name: string): Promise<Golden> {
  const { config, weights } = await openCheckpoint(`${FOLDER}${name}`);
  const expected = readExpected(`${FOLDER}${name}/expected.safetensors`);
  const ids = (tensor: string) => [...new Int32Array(expected(tensor))];
  return {
    config,
    weights,
    cases: [48, 160].map((length) => ({
      ids: ids(`input_ids_${length}`),
      logits: new Float32Array(expected(`logits_${length}`)),
    })),
    prompt: ids("prompt_ids"),
    greedy: ids("greedy_ids"),
  };
}

/** Integers too, which the loaders leave out: no weight is one. */
function readExpected(path: string): (tensor: string) => ArrayBuffer {
  const file = readFileSync(path);
  const begin = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, begin)) as Record<string, { data_offsets: [number, number] }>;
  return (tensor) => {
    const [from, to] = header[tensor].data_offsets;
    return Uint8Array.from(file.subarray(begin + from, begin + to)).buffer;
  };
}
