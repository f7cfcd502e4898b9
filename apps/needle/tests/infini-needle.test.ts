import { fileURLToPath } from "node:url";
import { load, type LanguageModel } from "longctx";
import { needleTask } from "@longctx/tasks";
import { afterAll, describe, expect, it } from "vitest";
import { gpuOrNull } from "../../../packages/core/tests/webgpu/device.ts";
import { measure } from "../src/run/measure.ts";
import { resolveMethod } from "../src/run/schedule.ts";

/** 367 thousand parameters with trained gates, segments of 64 tokens; see the README beside it. */
const MODEL = fileURLToPath(new URL("../../../packages/longctx/tests/data/tiny-infini", import.meta.url));
const gpu = await gpuOrNull();
gpu?.destroy();

/** A needle in the prose of the small world, read through a memory of 33,792 bytes and found. */
describe.each([
  { device: "cpu", length: 4096, depths: [0, 50, 100], trials: 2 },
  { device: "webgpu", length: 8192, depths: [0, 50], trials: 1 },
] as const)("on $device, at $length tokens", ({ device, length, depths, trials }) => {
  const missing = device === "webgpu" && !gpu;
  let model: LanguageModel;
  afterAll(() => model?.dispose());

  it.skipIf(missing).each(["linear", "delta"])(
    "a compressive memory gives the needle back: %s",
    async (update) => {
      model ??= await load(MODEL, { device });
      const task = needleTask({ needles: 1 }).bind(model.tokenizer!);
      const label = `infini:segment=64,update=${update}`;
      const method = { label, length, method: resolveMethod(label, length, 64) };
      for (const depth of depths) {
        for (let trial = 0; trial < trials; trial++) {
          const cell = { length, depth, trial, seed: 1 };
          const prompt = { prompt: task.prompt(cell), time: 0 };
          const record = await measure(model, task, { cell, method }, prompt, new AbortController().signal, null);
          expect(record).toMatchObject({ status: "ok", correct: true, rank_first: 1 });
        }
      }
    },
    300_000,
  );

  it.skipIf(missing)("the memory stays as large as it is, however long the text", async () => {
    model ??= await load(MODEL, { device });
    const session = model.session({ method: resolveMethod("infini:segment=64", length, 64) });
    const ids = model.tokenizer!.encode("the sailor looked at the hill late at night . ".repeat(200));
    await session.prefill(ids.slice(0, 1000));
    const before = session.bytesByPart;
    await session.prefill(ids.slice(1000));
    expect(session.bytesByPart).toEqual(before);
    expect(before.memory).toBe(2 * 4 * (32 * 32 + 32) * 4); // layers, heads, M and z in float32
    session.dispose();
  });
});
