import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Chalk } from "chalk";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { load, shippedHeads, type LanguageModel } from "longctx";
import { needleTask, sampleRecord, type BoundTask, type SampleRecord } from "@longctx/tasks";
import { readSamples } from "../src/files/samples-file.ts";
import { printed } from "../src/report/report.ts";
import { summarise } from "../src/report/summary.ts";
import { measure } from "../src/run/measure.ts";
import { runOptions } from "../src/run/options.ts";
import { run } from "../src/run/run.ts";
import { resolveMethods, specOf } from "../src/run/schedule.ts";
import { identity, record } from "./records.ts";

const SMALL = "reader=scroll:chunk=64,budget=40,answer=20";

describe("an arm that is a reader", () => {
  let model: LanguageModel;
  let task: BoundTask;
  beforeAll(async () => {
    model = await load("tiny", { device: "cpu" });
    task = needleTask({ needles: 3 }).bind(model.tokenizer!);
  });
  afterAll(() => model?.dispose());

  async function sample(label: string, depth: number, length = 800): Promise<SampleRecord> {
    const [method] = resolveMethods({ methods: [label], lengths: [length] }, model.context);
    const cell = { length, depth, trial: 0, seed: 2 };
    const { signal } = new AbortController();
    const made = { prompt: task.prompt(cell), time: 0 };
    return sampleRecord.parse(await measure(model, task, { cell, method }, made, signal, null));
  }

  it("has all its values in the record's spec", () => {
    const [method] = resolveMethods({ methods: [SMALL], lengths: [800] }, model.context);
    expect(method.label).toBe(SMALL);
    const shipped = shippedHeads(model.config)!
      .best.map((head) => head.join("."))
      .join("/");
    expect(specOf(method)).toBe(`${SMALL.replace("budget", "phrase=3,budget")},heads=${shipped}`);
  });

  it.each<[string, RegExp]>([
    ["reader=skim", /There is no reader "skim"/],
    ["reader=scroll:chunk=none", /chunk is none/],
    ["reader=scroll:heads=9.0", /the model has no head 9\.0/],
    ["reader=scroll:heads=no-such-file.json", /no-such-file\.json does not exist/],
  ])("is refused before anything is measured: %s", (label, message) => {
    expect(() => resolveMethods({ methods: [label], lengths: [256] }, model.context)).toThrow(message);
  });

  it("answers, and its record says what was carried and that the needle was", async () => {
    for (const depth of [0, 60, 100]) {
      const { reader, needles, ...read } = await sample(SMALL, depth);
      const [{ tok_start: start, tok_end: end }] = needles;
      expect(read).toMatchObject({ status: "ok", correct: true, rank_first: 1 });
      expect(read.cost.cache_bytes).toBeGreaterThan(0);
      const { chunk, lost, margin, answered_from: answered } = reader!.needle;
      expect([lost, answered]).toEqual([null, true]);
      expect(margin).toBeGreaterThan(1);
      const last = reader!.chunk_ends.length - 1;
      expect(reader!.chunk_ends[chunk]).toBeGreaterThanOrEqual(end);
      expect(reader!.chunk_ends[chunk - 1] ?? 0).toBeLessThanOrEqual(start);
      expect(reader!.chunk_ends[last]).toBe(read.prompt_tokens! - 3);
      // The needle is a sentence of its own, which was carried from its chunk on to the last.
      expect(reader!.carried.find(([from]) => from === start)).toEqual([start, end, chunk, last, expect.any(Number)]);
      expect(reader!.answered_from.map(([from]) => from)).toContain(start);
      expect(reader!.carried_omitted).toBe(0);
    }
  });

  it("says after which chunk the needle was lost", async () => {
    // Heads of the first layer do not retrieve, and hardly anything is carried.
    const { reader, needles, correct } = await sample("reader=scroll:chunk=64,budget=12,answer=12,heads=0.3", 0, 500);
    const { chunk, lost, answered_from: answered } = reader!.needle;
    expect([chunk, answered, correct]).toEqual([0, false, false]);
    const carried = reader!.carried.find(([from]) => from === needles[0].tok_start);
    expect(lost).toBe(carried ? carried[3] + 1 : 0);
  });

  it("stands in a run beside methods, which goes on where it stopped and says what was kept", async () => {
    const out = mkdtempSync(join(tmpdir(), "needle-reader-"));
    try {
      const options = runOptions({
        device: "cpu",
        lengths: [300, 500],
        depths: [50],
        trials: 2,
        methods: ["none", SMALL],
        out,
      });
      const { signal } = new AbortController();
      const path = join(out, "samples.jsonl");
      const timeless = () => [...readSamples(path).records.values()].map((one) => ({ ...one, cost: null }));
      const summary = await run(options, signal);
      const whole = timeless();
      const lines = readFileSync(path, "utf8").split("\n");
      writeFileSync(path, `${lines.slice(0, 5).join("\n")}\n${lines[5].slice(0, 40)}`); // as a crash leaves it
      expect(await run(options, signal)).toEqual(summary);
      expect(timeless()).toEqual(whole);
      expect(whole.map(({ method, reader }) => (reader ? method : null)).filter((method) => method !== null)).toEqual([SMALL, SMALL, SMALL, SMALL]); // prettier-ignore
      expect(whole).toHaveLength(8);
      expect(summary.readers).toMatchObject([
        { method: SMALL, length: 300, samples: 2, kept: 2, kept_right: 2, lost: [] },
        { method: SMALL, length: 500, samples: 2, kept: 2, kept_right: 2, lost: [] },
      ]);
    } finally {
      rmSync(out, { recursive: true });
    }
  });

  it("is refused by a run whose prompts it cannot read", async () => {
    const options = runOptions({ device: "cpu", lengths: [300], methods: ["reader=scroll:chunk=240"], out: "unused" });
    await expect(run(options, new AbortController().signal)).rejects.toThrow(/the model's window has 256/);
  });
});

describe("the report of readers", () => {
  const reader = {
    tokens_read: 9,
    chunk_ends: [10, 20, 30],
    carried: [],
    carried_omitted: 0,
    answered_from: [],
    needle: { chunk: 0, lost: null, margin: 7.5, answered_from: true },
  };
  const withReader = { ...identity, methods: ["none", "reader=scroll"] };
  const samples = [
    record({ method: "none" }),
    record({ method: "reader=scroll", reader }),
    record({ method: "reader=scroll", trial: 1, correct: false, reader: { ...reader, needle: { ...reader.needle, margin: null } } }), // prettier-ignore
    record({ method: "reader=scroll", trial: 2, correct: false, reader: { ...reader, needle: { chunk: 0, lost: 1, margin: 2, answered_from: false } } }), // prettier-ignore
  ];

  it("counts what was kept, lost and answered", async () => {
    const summary = summarise(withReader, samples);
    expect(summary.readers).toEqual([
      { method: "reader=scroll", length: 256, samples: 3, kept: 2, kept_right: 1, lost: [[2, 3]], margin: 2 },
    ]);
    expect(await printed(summary, "out", { columns: 80, level: new Chalk({ level: 0 }).level })).toContain(
      "reader=scroll at 256: carried to the end in 2 of 3, of these 1 answered right; lost after chunk 2 of 3; at least 2 times the best sentence that was dropped\n",
    );
  });

  it("is not there where no arm is a reader", () => {
    expect(summarise(identity, [record()])).not.toHaveProperty("readers");
  });
});
