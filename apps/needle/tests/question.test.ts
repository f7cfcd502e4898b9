import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readManifest } from "../src/files/manifest.ts";
import { SamplesFile } from "../src/files/samples-file.ts";
import { QUESTIONS, runOptions, type RunOptionValues } from "../src/run/options.ts";
import { run } from "../src/run/run.ts";

const BLOCKS = "blocks:size=16,top=2,local=64,exec=32";
const CONTROL = `${BLOCKS} then random-blocks`;

describe("how the question is read", () => {
  const measured = async (given: RunOptionValues) => {
    const out = mkdtempSync(join(tmpdir(), "needle-"));
    try {
      const options = runOptions({ lengths: [256], depths: [0, 50], trials: 1, device: "cpu", out, ...given });
      await run(options, new AbortController().signal);
      const file = new SamplesFile(join(out, "samples.jsonl"));
      file.close();
      return { records: [...file.records.values()], manifest: readManifest(join(out, "manifest.json")) };
    } finally {
      rmSync(out, { recursive: true });
    }
  };

  it("changes nothing where every token sees all", async () => {
    const runs = await Promise.all(QUESTIONS.map((question) => measured({ question, methods: ["none"] })));
    const [joined, ...others] = runs.map(({ records }) => records);
    for (const records of others)
      for (const [index, record] of records.entries()) {
        expect(record.pred_tokens).toEqual(joined[index].pred_tokens);
        expect(Math.abs(record.logprob_first! - joined[index].logprob_first!)).toBeLessThan(2e-3);
      }
    expect(runs.map(({ manifest }) => manifest.run.question)).toEqual([undefined, "apart", "singly"]);
  });

  it.each(["none", "prefix"] as const)("says which tokens choose together (reuse %s)", async (reuse) => {
    const lists = async (question: (typeof QUESTIONS)[number]) => {
      const { records } = await measured({ question, reuse, methods: [BLOCKS, CONTROL], trace: true });
      for (const { status, retrieved } of records) {
        expect(status).toBe("ok");
        expect(retrieved!.question.length).toBeGreaterThan(0);
      }
      return records.map((record) => record.retrieved!.question[0].counts.reduce((sum, [, count]) => sum + count, 0));
    };
    const [joined, apart, singly] = [await lists("joined"), await lists("apart"), await lists("singly")];
    // The question has three tokens, which fetch two blocks of 16 tokens each.
    expect(apart).toEqual(apart.map(() => 3 * 2 * 16));
    expect(singly).toEqual(apart);
    expect(joined).toEqual(apart);
  });

  it("is compared when a run goes on", async () => {
    const out = mkdtempSync(join(tmpdir(), "needle-"));
    try {
      const given = { lengths: [128], depths: [0], trials: 1, device: "cpu", out } as const;
      await run(runOptions({ ...given, question: "singly" }), new AbortController().signal);
      await expect(run(runOptions(given), new AbortController().signal)).rejects.toThrow(
        /question is singly there and not given here/,
      );
    } finally {
      rmSync(out, { recursive: true });
    }
  });

  it("is one of three", () => {
    expect(() => runOptions({ question: "aloud" as "apart" })).toThrow(
      /no question "aloud"; there is joined, apart or singly/,
    );
  });
});
