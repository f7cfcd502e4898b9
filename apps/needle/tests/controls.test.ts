import { load, LongctxError, parseMethod, type LanguageModel } from "longctx";
import { needleTask, type BoundTask, type SampleRecord } from "@longctx/tasks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { partsOfLabel, specForPrompt } from "../src/run/controls.ts";
import { measure } from "../src/run/measure.ts";
import { resolveArm, resolveMethods, type Job } from "../src/run/schedule.ts";
import { Trunks } from "../src/run/trunks.ts";

const BLOCKS = "blocks:size=16,top=2,local=64,exec=128";
const place = {
  needles: [{ key: "k", value: "v", start: 40, end: 46, depth: 0 }],
  sha256: "00000abc9999".padEnd(64, "0"),
};

describe("a label", () => {
  it.each([
    ["none", "none", null],
    [` ${BLOCKS} `, BLOCKS, null],
    [`${BLOCKS} then none`, BLOCKS, "none"],
    [`${BLOCKS}  then  oracle-block`, BLOCKS, "oracle-block:size=16,local=64,exec=128"],
    [`${BLOCKS} then random-blocks:seed=3,top=5`, BLOCKS, "random-blocks:seed=3,top=5,size=16,local=64,exec=128"],
    [
      `yarn:factor=2+${BLOCKS} then yarn:factor=2+oracle-block`,
      `yarn:factor=2+${BLOCKS}`,
      "yarn:factor=2+oracle-block:size=16,local=64,exec=128",
    ],
    // What the control has no default for is the method's own default, which is not written in the spec.
    ["knn:window=9 then oracle", "knn:window=9", "oracle:k=32,window=9,sinks=4"],
    ["knn:window=9 then oracle:k=7", "knn:window=9", "oracle:k=7,window=9,sinks=4"],
    ["knn:layers=1/3,window=9 then oracle", "knn:layers=1/3,window=9", "oracle:layers=1/3,k=32,window=9,sinks=4"],
  ])("is a method and a control: %s", (label, method, control) => {
    expect(partsOfLabel(label)).toEqual({ method, control });
    for (const spec of [method, control ?? "none"]) expect(() => parseMethod(specForPrompt(spec, place))).not.toThrow();
  });

  it("has one control at most", () => {
    expect(() => partsOfLabel("none then none then none")).toThrow(LongctxError);
    expect(() => partsOfLabel("none then none then none")).toThrow(
      /names 2 controls; write one method and one control/,
    );
    expect(() => resolveArm("none then yarm", 64, 64)).toThrow(/There is no method "yarm"/);
    expect(() => resolveArm("none then oracle-block", 64, 64)).toThrow(/oracle-block needs local/);
  });
});

it("controls take the needle's place and a seed from the prompt, unless they are given", () => {
  expect(specForPrompt("oracle-block:local=9", place)).toBe("oracle-block:local=9,from=40,to=46");
  expect(specForPrompt("logn+random-blocks", place)).toBe("logn+random-blocks:seed=2748");
  for (const given of ["oracle-block:local=9,from=1,to=2", "random-blocks:local=9,seed=5", "none", BLOCKS])
    expect(specForPrompt(given, place)).toBe(given);
});

describe("with controls behind a method", () => {
  let model: LanguageModel;
  let task: BoundTask;
  beforeAll(async () => {
    model = await load("tiny", { device: "cpu" });
    task = needleTask({ needles: 1 }).bind(model.tokenizer!);
  });
  afterAll(() => model.dispose());
  const LENGTH = 300;
  const cells = [75, 25].map((depth) => ({ length: LENGTH, depth, trial: 0, seed: 2 }));
  const armOf = (label: string) => resolveArm(label, LENGTH, 256);
  const run = async (labels: readonly string[], trunks: Trunks | null, trace = false): Promise<SampleRecord[]> => {
    const arms = labels.map(armOf);
    const records: SampleRecord[] = [];
    for (const cell of cells)
      for (const method of arms) {
        const job: Job = { cell, method };
        const made = { prompt: task.prompt(cell), time: 0 };
        const rest = cells.slice(cells.indexOf(cell)).map((next) => task.prompt(next).ids);
        records.push(
          await measure(model, task, job, made, new AbortController().signal, trunks, { trace, upcoming: () => rest }),
        );
      }
    trunks?.dispose();
    return records;
  };
  const timeless = (record: SampleRecord) => ({ ...record, cost: null });

  it("knows where the question begins", () => {
    const { ids, questionStart, needles } = task.prompt(cells[0]);
    expect(model.tokenizer!.decode(ids.slice(questionStart)).trim()).toBe(`remember : ${needles[0].key}`);
  });

  it.each([BLOCKS, "streaming:sinks=4,window=60", "none"])(
    "reads the text once for all of them, and to the same numbers: %s",
    async (label) => {
      const labels = [label, ...["oracle-block:size=16,local=64,exec=128", "none", label].map((control) => `${label} then ${control}`)]; // prettier-ignore
      const kept = label.startsWith("streaming") ? [labels[0], labels[3]] : labels;
      const cold = await run(kept, null);
      expect(cold.map(({ status, error }) => [status, error])).toEqual(cold.map(() => ["ok", null]));
      const warm = await run(kept, new Trunks());
      expect(warm.map(timeless)).toEqual(cold.map(timeless));
      const reused = warm.map(({ cost }) => cost.reused_prefix_tokens);
      expect(reused[0]).toBe(0);
      for (const tokens of reused.slice(1, kept.length)) expect(tokens).toBeGreaterThan(LENGTH - 140);
    },
  );

  it("begins a control at the question", async () => {
    const [record] = await run([`${BLOCKS} then oracle-block`], null);
    const { ids, questionStart, needles, firstAnswerToken } = task.prompt(cells[0]);
    const [{ start, end }] = needles;
    expect(record.method).toBe(`${BLOCKS} then oracle-block`);
    expect(record.method_spec).toBe(`${BLOCKS} then oracle-block:from=${start},to=${end},size=16,local=64,exec=128`);
    const session = model.session({ method: parseMethod(BLOCKS), capacity: LENGTH + task.maxNew });
    await session.prefill(ids.slice(0, questionStart));
    const control = parseMethod(`oracle-block:size=16,local=64,exec=128,from=${start},to=${end}`);
    const logits = await session.fork({ method: control }).prefill(ids.slice(questionStart));
    const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    expect(record.logprob_first).toBeCloseTo(logits[firstAnswerToken] - total, 2);
  });

  it("does not share what a control has read that depends on the prompt", async () => {
    const records = await run(["oracle-block:size=16,local=64,exec=128"], new Trunks());
    expect(records.map(({ cost }) => cost.reused_prefix_tokens)).toEqual([0, 0]);
    expect(new Set(records.map(({ method_spec: spec }) => spec)).size).toBe(2);
  });

  it("traces what is fetched for the question and the answer", async () => {
    const labels = [BLOCKS, `${BLOCKS} then oracle-block`, `${BLOCKS} then random-blocks`, "none"];
    const cold = await run(labels, null, true);
    expect((await run(labels, new Trunks(), true)).map(timeless)).toEqual(cold.map(timeless));
    const untraced = await run(labels.slice(0, 1), null);
    expect(untraced[0].retrieved).toBeUndefined();
    expect(untraced[0].pred).toBe(cold[0].pred);
    for (const [i, { retrieved, needles }] of cold.entries()) {
      const [, oracle, , none] = labels.map((_, arm) => i % labels.length === arm);
      const prompt = task.prompt(cells[Math.floor(i / labels.length)]);
      const rows = prompt.ids.length - prompt.questionStart;
      const [{ tok_start: from, tok_end: to }] = needles;
      // Blocks of 16 tokens begin behind 4 sinks.
      const blocks = oracle ? Math.floor((to - 1 - 4) / 16) - Math.floor((from - 4) / 16) + 1 : 2;
      expect(retrieved!.bin).toBe(Math.ceil(LENGTH / 128));
      expect(retrieved!.question.map(({ layer }) => layer)).toEqual(none ? [] : [0, 1, 2, 3]);
      expect(retrieved!.answer).toEqual([]); // the answer has one token, which is not read
      for (const { lists, counts, needle } of retrieved!.question) {
        expect(lists).toBe(rows);
        expect(counts.reduce((sum, [, count]) => sum + count, 0)).toBe(lists * blocks * 16);
        expect(needle).toEqual([oracle ? 1 : needle[0]]); // one list for all heads
      }
    }
  });
});

it("refuses a control that a method does not go on under, before anything is measured", async () => {
  const { run } = await import("../src/run/run.ts");
  const { runOptions } = await import("../src/run/options.ts");
  const options = (method: string) =>
    runOptions({ methods: [method], lengths: [64], trials: 1, device: "reference", out: "/nonexistent/needle" });
  const reading = (method: string) => run(options(method), new AbortController().signal);
  await expect(reading("streaming:window=20 then none")).rejects.toThrow(
    /cannot go on under none: the cache of layer 0/,
  );
  await expect(reading("infini:segment=64,beta=0 then none")).rejects.toThrow(/memory that it no longer keeps/);
  expect(() =>
    resolveMethods({ methods: ["none then parallel:windows=0"], lengths: [64] }, { trainedWindow: 64 } as never),
  ).toThrow(LongctxError);
});
