import { LanguageModel, LongctxError, open, Rings, type Backend, type SequenceState, type Tokenizer } from "longctx";
import { needleTask, type BoundTask } from "@longctx/tasks";
import { beforeAll, describe, expect, it } from "vitest";
import { measure } from "../src/run/measure.ts";
import { resolveMethod, type Job } from "../src/run/schedule.ts";

/** The controls of a benchmark: who knows the answer has to get 100 %, who does not 0 %. */
describe("measuring", () => {
  let tokenizer: Tokenizer;
  let task: BoundTask;
  let modelOf: (answer: (ids: readonly number[]) => number) => LanguageModel;

  beforeAll(async () => {
    const checkpoint = await open("tiny");
    checkpoint.close();
    tokenizer = checkpoint.tokenizer!;
    task = needleTask({ needles: 3 }).bind(tokenizer);
    modelOf = (answer) =>
      new LanguageModel({ backend: scripted(checkpoint.config, answer), tokenizer, chatTemplate: null });
  });

  const jobs: Job[] = [256, 512].flatMap((length) =>
    [0, 50, 100].map((depth) => ({
      cell: { length, depth, trial: 0, seed: 3 },
      method: { label: "none", length, method: resolveMethod("none", length, 256) },
    })),
  );
  const measureAll = (model: LanguageModel) =>
    Promise.all(
      jobs.map((job) =>
        measure(model, task, job, { prompt: task.prompt(job.cell), time: 1.23 }, new AbortController().signal, null),
      ),
    );

  it("gives the oracle everything", async () => {
    const oracle = modelOf(
      (ids) => ids[ids.slice(0, -1).findIndex((id, at) => id === ids.at(-1) && ids[at - 1] === ids.at(-2)) + 1],
    );
    for (const record of await measureAll(oracle)) {
      expect(record).toMatchObject({
        status: "ok",
        correct: true,
        score: 1,
        rank_first: 1,
        gen_budget: 1,
        finish_reason: "length",
        prompt_tokens: record.target_len,
      });
      expect(record.pred?.trim()).toBe(record.refs[0]); // a continuation begins with its space
      expect(record.logprob_first).toBeCloseTo(-Math.log(1 + 284 * Math.exp(-5)), 3);
    }
  });

  it("gives a constant answer nothing", async () => {
    for (const record of await measureAll(modelOf(() => 4)))
      expect(record).toMatchObject({ status: "ok", correct: false, score: 0 });
  });

  it("records what went wrong instead of a wrong answer", async () => {
    const broken = modelOf(() => {
      throw new LongctxError("capacity", "No room for that.");
    });
    for (const record of await measureAll(broken))
      expect(record).toMatchObject({
        status: "error",
        error: { code: "capacity", message: "No room for that." },
        score: null,
        correct: false,
        pred: null,
      });
    const defect = modelOf(() => {
      throw new RangeError("Array buffer allocation failed");
    });
    expect((await measureAll(defect))[0]).toMatchObject({
      status: "error",
      error: { code: "internal", message: "RangeError: Array buffer allocation failed" },
    });
  });

  it("is ended by the caller's signal", async () => {
    const job = jobs[0];
    await expect(
      measure(
        modelOf(() => 4),
        task,
        job,
        { prompt: task.prompt(job.cell), time: 0 },
        AbortSignal.abort(),
        null,
      ),
    ).rejects.toMatchObject({ code: "aborted" });
  });
});

/** A backend whose logits are 5 for the token that `answer` makes of the text, and 0 for the rest. */
function scripted(config: Backend["config"], answer: (ids: readonly number[]) => number): Backend {
  const texts = new WeakMap<SequenceState, number[]>();
  const backend: Backend = {
    device: "scripted",
    precision: "exact",
    config,
    preferredChunk: 100,
    createState: (layouts) => {
      const rings = Rings.of(layouts, config.layerCount);
      const cache: SequenceState = {
        backend,
        rings,
        bytes: 0,
        bytesByPart: { ring: 0, far: 0, index: 0, memory: 0 },
        fork: () => cache,
        truncate: (length) => rings.truncate(length),
        save: () => new Uint8Array(),
        dispose: () => {},
      };
      texts.set(cache, []);
      return cache;
    },
    restoreState: () => {
      throw new Error("not needed");
    },
    forward: async ({ state: cache, ids, logitRows }) => {
      cache.rings.append(ids.length);
      const text = texts.get(cache)!;
      text.push(...ids);
      const logits = new Float32Array(logitRows * config.vocabSize);
      if (logitRows > 0) logits[(logitRows - 1) * config.vocabSize + answer(text)] = 5;
      return logits;
    },
    dispose: async () => {},
  };
  return backend;
}
