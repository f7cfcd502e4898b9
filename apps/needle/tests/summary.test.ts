import { Chalk } from "chalk";
import { describe, expect, it } from "vitest";
import { cellsCsv } from "../src/report/cells-csv.ts";
import { printed } from "../src/report/report.ts";
import { summarise } from "../src/report/summary.ts";
import { svgHeatmap } from "../src/report/svg-heatmap.ts";
import { accuracyTable } from "../src/report/table.ts";
import { terminalHeatmap } from "../src/report/terminal-heatmap.ts";
import { identity, record, records } from "./records.ts";

/** none finds nothing beyond 256 tokens; streaming only at the end; one trial of the last is an error. */
const all = records(
  ({ method, length, depth }) =>
    method.startsWith("yarn") || length === 256 || (method.startsWith("streaming") && depth === 100),
);
const failed = all.map((one) =>
  one.method.startsWith("streaming") && one.target_len === 512 && one.depth_requested === 100 && one.trial === 3
    ? {
        ...one,
        status: "error" as const,
        error: { code: "capacity", message: "no room" },
        correct: false,
        score: null,
        logprob_first: null,
      }
    : one,
);
const summary = summarise(identity, failed);

describe("the summary", () => {
  it("counts, and counts errors as wrong", () => {
    expect(summary).toMatchObject({ planned: 72, finished: 72 });
    const at = (method: string, length: number) =>
      summary.by_length.find((score) => score.method.startsWith(method) && score.length === length);
    expect(at("none", 256)).toMatchObject({ samples: 12, right: 12, accuracy: 1, low: 0.7575, high: 1, errors: 0 });
    expect(at("none", 512)).toMatchObject({ samples: 12, right: 0, accuracy: 0, low: 0, high: 0.2425 });
    expect(at("streaming", 512)).toMatchObject({ samples: 12, right: 3, errors: 1, accuracy: 0.25 });
    expect(summary.cells).toHaveLength(18);
    expect(
      summary.cells.find((cell) => cell.method.startsWith("streaming") && cell.length === 512 && cell.depth === 100),
    ).toMatchObject({ right: 3, samples: 4 });
    expect(summary.errors).toEqual([
      {
        id: expect.any(String),
        method: "streaming:sinks=4,window=252",
        length: 512,
        depth: 100,
        trial: 3,
        message: "no room",
      },
    ]);
  });

  it("compares on the same prompts", () => {
    const pooled = summary.comparisons.filter(({ length }) => length === null);
    expect(
      pooled.map(({ method, both, onlyFirst, onlySecond, neither }) => [
        method.split(":")[0],
        both,
        onlyFirst,
        onlySecond,
        neither,
      ]),
    ).toEqual([
      ["yarn", 12, 12, 0, 0],
      ["streaming", 12, 3, 0, 9],
    ]);
    expect(pooled[0]).toMatchObject({ difference: 0.5, p: 0.000488, p_holm: 0.000977 });
    expect(pooled[1]).toMatchObject({ difference: 0.125, p: 0.25, p_holm: 0.25 });
    expect(summary.comparisons).toHaveLength(2 + 4);
  });

  it("does not depend on the order of the samples", () => {
    expect(JSON.stringify({ ...summarise(identity, failed.toReversed()), errors: [] })).toBe(
      JSON.stringify({ ...summary, errors: [] }),
    );
  });

  it("leaves cells empty that were not measured", () => {
    const part = summarise(identity, [record()]);
    expect(part.cells.filter(({ accuracy }) => accuracy === null)).toHaveLength(17);
    expect(part.finished).toBe(1);
  });
});

describe("cells.csv", () => {
  it("quotes methods with commas", () => {
    const lines = cellsCsv(summary).split("\r\n");
    expect(lines[0]).toBe("method,length,depth,samples,right,errors,accuracy,low,high,logprob_first");
    expect(lines[1]).toBe("none,256,0,4,4,0,1,0.5101,1,-0.5");
    expect(lines.at(-2)).toMatch(/^"streaming:sinks=4,window=252",512,100,4,3,1,0\.75,/);
    expect(lines).toHaveLength(18 + 2);
  });
});

describe("what a terminal shows", () => {
  it("reads without colours", async () => {
    const text = await printed(summary, "runs/x", { columns: 80, level: 0 });
    expect(text).not.toContain("\u001b");
    expect(text).toContain("│ streaming:sinks=4,window=252 │      1.00 │   0.25 1! │");
    expect(text).toContain("1 sample ended in an error and counts as wrong:\n  1 × no room");
    expect(text).toMatch(
      /yarn:factor=auto +\+0\.50 \[\+0\.27, \+0\.69\], p < 0\.001 \(12 gained, 0 lost against none\)/,
    );
    expect(
      Math.max(
        ...terminalHeatmap(summary, 80, 0)
          .split("\n")
          .map(({ length }) => length),
      ),
    ).toBeLessThanOrEqual(80);
  });

  it("draws a block a method with every cell's number", () => {
    const blocks = terminalHeatmap(summary, 40, 0).split("\n\n");
    expect(blocks).toHaveLength(3);
    expect(blocks[2].split("\n").map((line) => line.trim())).toEqual([
      "streaming:sinks=4,window=252",
      "256   512",
      "0 %  1.00  0.00",
      "50 %  1.00  0.00",
      "100 %  1.00  0.75",
      "",
    ]);
  });

  it("paints in as many colours as there are", () => {
    expect(terminalHeatmap(summary, 80, 3)).toContain("\u001b[48;2;253;231;37m");
    expect(terminalHeatmap(summary, 80, 2)).toContain("\u001b[48;5;");
    expect(accuracyTable(summary, new Chalk({ level: 1 }))).toContain("\u001b[32m1.00");
  });
});

describe("heatmap.svg", () => {
  it("has the same bytes for the same samples", async () => {
    expect(await svgHeatmap(summary)).toBe(await svgHeatmap(summarise(identity, failed.toReversed())));
  });

  it("shows title, panels, axes and every cell", async () => {
    const svg = await svgHeatmap(summary);
    const texts = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text);
    expect(texts).toContain("tiny: needle, 1 needle");
    expect(texts.find((text) => text.includes("4 trials a cell"))).toContain("trained window 256 tokens (dashed line)");
    expect(texts.filter((text) => identity.methods.includes(text))).toEqual(identity.methods);
    const cells = texts.filter((text) => /^\d\.\d\d$/.test(text));
    expect(cells).toHaveLength(18);
    expect(cells.filter((text) => text === "1.00")).toHaveLength(12);
    expect(cells.filter((text) => text === "0.75")).toHaveLength(1);
    expect(texts.filter((text) => text === "512").length).toBeGreaterThan(0);
    expect(texts.indexOf("0")).toBeLessThan(texts.indexOf("100"));
    expect(svg.match(/stroke-dasharray/g)).toHaveLength(3);
    expect(svg).not.toMatch(/NaN|undefined|null/);
  });

  it("has grey dashes for cells that were not measured", async () => {
    const svg = await svgHeatmap(summarise(identity, [record()]));
    expect([...svg.matchAll(/>–<\/text>/g)]).toHaveLength(17);
  });
});
