import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { LanguageModel, type Composition } from "@longctx/core";
import { parseMethod } from "../../src/methods.ts";
import { backendOf, type Device } from "../devices.ts";
import { readGolden, type Golden } from "../read-golden.ts";
import { TRAINED_WINDOW, type Case } from "./cases.ts";
import { define, type Text } from "./definitions.ts";
import { denseLogits, readLlama, type Llama } from "./dense-llama.ts";

/** How a text is read: the first tokens by one call, in chunks, the others one call each; `prompt` is the N they are told. */
interface Way {
  readonly chunk: number;
  readonly together: number;
  readonly prompt: number;
}

export interface Judge {
  readonly llama: Llama;
  readonly texts: Golden["cases"];
  ids(length: number): readonly number[];
  /** The definition's logits [length, V] when the first `prompt` tokens, all of them unless given, are the prompt. */
  logits(method: Case, length: number, prompt?: number): Float64Array;
  /** Logits [T, V] of the product. */
  read(device: Device, method: Case, ids: readonly number[], way: Way): Promise<Float32Array>;
}

/**
 * A golden checkpoint as the definitions and as the backends see it; T is made small enough for every method to act.
 * Specs are parsed by the registry of `longctx` unless another one is given.
 */
export async function judgeOf(name: string, parse: (spec: string) => Composition = parseMethod): Promise<Judge> {
  const llama = readLlama(goldenFolder(name));
  const { config, weights, cases: texts } = await readGolden(name);
  const ids = (length: number) => texts.find((text) => text.ids.length === length)!.ids;
  const known = new Map<string, Float64Array>();
  const models = new Map<Device, LanguageModel>();
  const modelOf = (device: Device) => {
    if (!models.has(device)) {
      const backend = backendOf(device, config, weights);
      const parts = { backend, tokenizer: null, chatTemplate: null, trainedWindow: TRAINED_WINDOW };
      models.set(device, new LanguageModel(parts));
    }
    return models.get(device)!;
  };
  return {
    llama,
    texts,
    ids,
    logits(method, length, prompt = length) {
      const key = `${method.spec} ${length} ${prompt}`;
      if (!known.has(key)) known.set(key, denseLogits(llama, ids(length), define(method.parts, textOf(llama, prompt))));
      return known.get(key)!;
    },
    read: (device, { spec }, text, way) => read(modelOf(device), parse(spec), text, way),
  };
}

export function goldenFolder(name: string): string {
  return fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
}

/** `prompt` is N. */
export function textOf(llama: Llama, prompt: number, trainedWindow = TRAINED_WINDOW): Text {
  return { base: llama.base, d: llama.rotarySize, trainedWindow, prompt, ownWindow: llama.slidingWindow };
}

/** Logits [T, V] of a model under a method, read in a certain way. */
export async function read(
  model: LanguageModel,
  method: Composition,
  ids: readonly number[],
  way: Way,
): Promise<Float32Array> {
  const session = model.session({ method, capacity: 256, chunk: way.chunk });
  const all = new Float32Array(ids.length * model.config.vocabSize);
  const calls = [ids.slice(0, way.together), ...ids.slice(way.together).map((id) => [id])];
  for (const call of calls.filter(({ length }) => length > 0)) {
    const first = session.length;
    const length = Math.max(way.prompt, first + call.length);
    all.set(await session.prefill(call, { logitRows: call.length, length }), first * model.config.vocabSize);
  }
  session.dispose();
  return all;
}

/** The largest of any logit; NaN when one is. */
export function difference(computed: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(computed.length).toBe(expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(computed[i] - expected[i]));
  return largest;
}
