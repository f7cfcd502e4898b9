import { LanguageModel, type Backend, type ModelConfig, type Weights } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { largestDifference, randomNumbers, tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";

export { tinyIds } from "../../core/tests/tiny-model.ts";

/** So many different ids below 256, in a random order. */
export function distinctIds(count: number, seed = 5): number[] {
  const random = randomNumbers(seed);
  const places = Array.from({ length: 256 }, (_, id) => ({ id, place: random() }));
  return places
    .sort((a, b) => a.place - b.place)
    .slice(0, count)
    .map(({ id }) => id);
}

/** The backends under test, and how far each may be from the definition on logits of a few units. */
export const DEVICES = ["reference", "cpu"] as const;
export type Device = (typeof DEVICES)[number];
export const TOLERANCE: Readonly<Record<Device, number>> = { reference: 1e-5, cpu: 1e-3 };

export function backendOf(device: Device, config: ModelConfig, weights: Weights): Backend {
  return device === "cpu" ? createCpu(config, weights, { threads: 1 }) : createReference(config, weights);
}

export function modelOf(device: Device, config: ModelConfig, weights: Weights): LanguageModel {
  return new LanguageModel({ backend: backendOf(device, config, weights), tokenizer: null, chatTemplate: null });
}

/** The random decoder of two layers on every device. Heads of 8 channels, since the cpu's kernels for a token want multiples of 4. */
export function tinyModels(changes: Partial<ModelConfig> = {}): Readonly<Record<Device, LanguageModel>> {
  const config = tinyConfig({ maxPositions: 512, headSize: 8, ...changes });
  const weights = tinyWeights(config);
  return { reference: modelOf("reference", config, weights), cpu: modelOf("cpu", config, weights) };
}

/** A stale or missing NaN would make every difference small. */
export function difference(a: Float32Array, b: Float32Array): number {
  const wrong = a.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) throw new Error(`Value ${wrong} is ${a[wrong]}`);
  return largestDifference(a, b);
}
