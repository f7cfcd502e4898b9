import { expect } from "vitest";
import { LanguageModel, type Method, type ModelConfig, type Session, type Weights } from "@longctx/core";
import { methods } from "../../src/methods.ts";
import { backendOf, TOLERANCE, type Device } from "../devices.ts";
import { difference } from "./judge.ts";

/** A device under test. */
export interface Place {
  /** How far its logits may be from the definition's. */
  readonly tolerance: number;
  open(config: ModelConfig, weights: Weights): LanguageModel | Promise<LanguageModel>;
}

export function placeOf(device: Device): Place {
  return {
    tolerance: TOLERANCE[device],
    open: (config, weights) =>
      new LanguageModel({ backend: backendOf(device, config, weights), weights, tokenizer: null, chatTemplate: null }),
  };
}

/** Room for every text of these tests. */
const CAPACITY = 256;

export function start(model: LanguageModel, method: string | readonly Method[], chunk: number): Session {
  return model.session({ ...optionsOf(method), chunk });
}

export function optionsOf(method: string | readonly Method[]): { method: readonly Method[]; capacity: number } {
  return { method: typeof method === "string" ? methods.parse(method) : method, capacity: CAPACITY };
}

/** Logits [T, V] of what a session reads on, by as many tokens a call as given. */
export async function readCalls(
  session: Session,
  ids: readonly number[],
  calls: readonly number[] = [ids.length],
): Promise<Float32Array> {
  const { vocabSize } = session.model.config;
  const all = new Float32Array(ids.length * vocabSize);
  let from = 0;
  for (const count of calls) {
    const part = ids.slice(from, from + count);
    all.set(await session.prefill(part, { logitRows: count }), from * vocabSize);
    from += count;
  }
  expect(from).toBe(ids.length);
  return all;
}

/** Ways of reading a text: calls of prefill, each in chunks. */
export function callsOf(length: number): Readonly<Record<string, readonly number[]>> {
  const ones = (count: number) => Array.from({ length: count }, () => 1);
  return {
    "by one call": [length],
    "by three calls": [Math.floor(length / 3) - 3, Math.floor(length / 3) + 5, length - 2 * Math.floor(length / 3) - 2],
    "with tokens one by one behind a prompt": [length - 19, ...ones(19)],
    "token by token": ones(length),
  };
}

export function expectClose(computed: ArrayLike<number>, expected: ArrayLike<number>, { tolerance }: Place): void {
  expect(difference(computed, expected)).toBeLessThan(tolerance);
}

/** That the tokens a session generates are the most likely ones by the definition's logits of the whole text, [T, V]. */
export async function expectGenerated(
  session: Session,
  count: number,
  definition: (tokens: readonly number[]) => Float64Array,
  place: Place,
): Promise<void> {
  const before = session.length;
  const generation = session.generate({ maxNew: count, stopTokens: [] });
  await generation.complete();
  expect(generation.ids).toHaveLength(count);
  const text = [...session.tokens];
  expect(text.slice(before)).toEqual(generation.ids.slice(0, -1));
  const { vocabSize } = session.model.config;
  const logits = definition(text);
  expectClose(session.lastLogits!, logits.subarray(-vocabSize), place);
  generation.ids.forEach((id, i) => {
    const row = logits.subarray((before - 1 + i) * vocabSize, (before + i) * vocabSize);
    expect(Math.max(...row) - row[id]).toBeLessThan(2 * place.tolerance);
  });
}
