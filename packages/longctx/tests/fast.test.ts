import { describe, expect, it } from "vitest";
import { LanguageModel, type Method, type Session } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { methods } from "../src/methods.ts";
import { difference, modelOf, tinyIds } from "./devices.ts";

/**
 * `fast` reads keys and values in 8 bits when it generates, so it is near the reference, not equal: here within a
 * hundredth or two of logits of a few units. Something read from the wrong place is off by tenths.
 */
const TOLERANCE = 0.06;
const config = tinyConfig({ maxPositions: 512, headSize: 8 });
const weights = tinyWeights(config);
const reference = modelOf("reference", config, weights);
const backend = createCpu(config, weights, { threads: 1, precision: "fast" });
const fast = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
const ids = tinyIds(80, 3);

/** Logits of tokens read one by one. */
async function stepped(session: Session, part: readonly number[]): Promise<Float32Array> {
  const logits: number[] = [];
  for (const id of part) logits.push(...(await session.prefill([id])));
  return Float32Array.from(logits);
}

function start(model: LanguageModel, spec: string, chunk = 4): Session {
  const method: Method[] = methods.parse(spec);
  return model.session({ method, chunk, capacity: 96 });
}

describe("fast precision, token by token, is near the reference", () => {
  const specs = ["none", "rerope:window=8", "rerope:window=9+yarn:factor=4", "dynamic-ntk:factor=2"];
  for (const sinks of [0, 1, 3, 4, 8])
    for (const window of [10, 11, 12, 13]) specs.push(`streaming:sinks=${sinks},window=${window}`);

  it.each(specs)("%s", async (spec) => {
    for (const prompt of [0, 30]) {
      const [judge, session] = [start(reference, spec), start(fast, spec)];
      if (prompt > 0) for (const one of [judge, session]) await one.prefill(ids.slice(0, prompt));
      expect(
        difference(await stepped(session, ids.slice(prompt)), await stepped(judge, ids.slice(prompt))),
      ).toBeLessThan(TOLERANCE);
    }
  });

  it.each(["none", "rerope:window=8", "dynamic-ntk:factor=2"])("after truncation and in forks: %s", async (spec) => {
    const results: Float32Array[] = [];
    for (const model of [reference, fast]) {
      const session = start(model, spec);
      await session.prefill(ids.slice(0, 20));
      await stepped(session, ids.slice(20, 40));
      const fork = session.fork();
      session.truncate(23);
      const logits = [await stepped(session, ids.slice(50, 60)), await stepped(fork, ids.slice(40, 50))];
      session.truncate(12);
      await session.prefill(ids.slice(60, 70)); // a chunk over what single tokens wrote
      logits.push(await stepped(session, ids.slice(70)));
      const restored = model.restoreSession(await session.save(), {
        method: methods.parse(spec),
        chunk: 4,
        capacity: 96,
      });
      logits.push(await stepped(restored, ids.slice(0, 5)), await stepped(session, ids.slice(0, 5)));
      results.push(Float32Array.from(logits.flatMap((part) => [...part])));
    }
    expect(difference(results[1], results[0])).toBeLessThan(TOLERANCE);
  });
});
