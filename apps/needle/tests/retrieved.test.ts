import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SampleRecord } from "@longctx/tasks";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openRunFolder } from "../src/files/manifest.ts";
import { printed, writeReport } from "../src/report/report.ts";
import { retrievedFigures } from "../src/report/retrieved.ts";
import { summarise } from "../src/report/summary.ts";
import { identity, record } from "./records.ts";

const method = "streaming:sinks=4,window=252";
type Fetches = NonNullable<SampleRecord["retrieved"]>["question"][number];
const fetches = (layer: number, needle: number[], shown = 0): Fetches => ({ layer, lists: 4, counts: [[3, 40]], needle, shown }); // prettier-ignore
const samples = [
  record({ method, trial: 0, retrieved: { bin: 20, question: [fetches(0, [0.5, 1]), fetches(2, [0])], answer: [] } }),
  record({
    method,
    trial: 1,
    retrieved: { bin: 20, question: [fetches(0, [0, 0.5], 0.2)], answer: [fetches(2, [1])] },
  }),
  record({ method, trial: 2 }),
  record({ trial: 0, retrieved: { bin: 20, question: [], answer: [] } }),
];
const run = { ...identity, trace: true };

describe("what was fetched, in the report", () => {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "needle-"))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it("is a mean by layer, over samples, heads and the best head", () => {
    expect(summarise(run, samples).retrieved).toEqual([
      {
        method,
        length: 256,
        samples: 2,
        question: [
          { layer: 0, mean: 0.5, best_head: 0.75, shown: 0.1 },
          { layer: 2, mean: 0, best_head: 0, shown: 0 },
        ],
        answer: [{ layer: 2, mean: 1, best_head: 1, shown: 0 }],
      },
    ]);
    expect(summarise(identity, [record()])).not.toHaveProperty("retrieved");
  });

  it("is a picture a length, a panel a depth, with the needle's place", async () => {
    const figures = await retrievedFigures(run, samples);
    expect([...figures.keys()]).toEqual(["retrieved-256.svg"]);
    const svg = figures.get("retrieved-256.svg")!;
    for (const text of [
      `${method}: question`,
      `${method}: answer`,
      "needle at 50 %",
      "the needle, in each trial",
      "bins of 20 tokens",
    ])
      expect(svg).toContain(text);
    expect(svg).not.toContain("none: question");
    expect(await retrievedFigures(identity, [record()])).toEqual(new Map());
  });

  it("is written and printed, and goes with the run", async () => {
    openRunFolder(folder, run, "tiny", false);
    writeFileSync(join(folder, "notes.svg"), "");
    const summary = await writeReport(folder, run, samples);
    expect(readdirSync(folder).sort()).toEqual(["cells.csv", "heatmap.svg", "manifest.json", "notes.svg", "retrieved-256.svg", "summary.json"]); // prettier-ignore
    expect(JSON.parse(readFileSync(join(folder, "summary.json"), "utf8"))).toHaveProperty("retrieved");
    const text = await printed(summary, folder, { columns: 100, level: 0 });
    expect(text).toContain(
      `${method}  256  question 0.25, layer 0 0.75, seen without 0.05; answer 1.00, layer 2 1.00, seen without 0.00`,
    );
    expect(text).toContain(join(folder, "retrieved-256.svg"));
    openRunFolder(folder, identity, "tiny", true);
    expect(readdirSync(folder).sort()).toEqual(["manifest.json", "notes.svg"]);
  });

  it("belongs to a run that traces: another is refused", () => {
    openRunFolder(folder, run, "tiny", false);
    expect(() => openRunFolder(folder, identity, "tiny", false)).toThrow(/trace is true there and not given here/);
  });
});
