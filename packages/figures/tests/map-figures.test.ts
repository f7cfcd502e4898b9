import { inflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { headFigure, placeFigure, type PlaceFigure } from "../src/index.ts";
import { expectWellFormed, textsOf } from "./well-formed.ts";

const figure: PlaceFigure = {
  title: "What was <fetched>",
  subtitle: ["bins of 10 tokens"],
  tokens: 40,
  bin: 10,
  layers: 3,
  legend: "share",
  mark: "the needle",
  rows: [
    {
      title: "blocks: question",
      panels: [
        { title: "at 0 %", shares: [[0, 0.5, 1, 0], [], [1, 0, 0, 0]], marks: [{ from: 4, to: 8 }] },
        { title: "at 50 %", shares: [] },
      ],
    },
  ],
};

describe("placeFigure", () => {
  /** The indices of each picture's palette, [layers, bins]; 0 is blank. */
  const pictures = (svg: string): number[][] =>
    Array.from(svg.matchAll(/data:image\/png;base64,([^"]+)"/g), ([, data]) => {
      const png = Buffer.from(data, "base64");
      const at = png.indexOf("IDAT");
      const rows = inflateSync(png.subarray(at + 4, at + 4 + png.readUInt32BE(at - 4)));
      const width = png.readUInt32BE(16);
      return [...rows].filter((_, i) => i % (width + 1) !== 0);
    });

  it("has layers upwards and tokens to the right, blank where nothing was taken", async () => {
    const svg = await placeFigure(figure);
    const [first, second] = pictures(svg);
    expect(first.map((index) => Number(index > 0)).join("")).toBe(["1000", "0000", "0110"].join(""));
    expect(first[0]).toBe(first[10]); // both whole
    expect(first[9]).not.toBe(first[10]);
    expect(second.every((index) => index === 0)).toBe(true);
  });

  it("says what is in it", async () => {
    const svg = await placeFigure(figure);
    expectWellFormed(svg);
    for (const text of [
      "What was &lt;fetched&gt;",
      "bins of 10 tokens",
      "blocks: question",
      "at 0 %",
      "at 50 %",
      "layer",
      "token",
      "share",
      "the needle",
    ])
      // prettier-ignore
      expect(textsOf(svg)).toContain(text);
    expect(await placeFigure(figure)).toBe(svg);
  });
});

describe("headFigure", () => {
  const svgOf = (domain?: readonly [number, number]) =>
    headFigure({
      title: "Recall",
      subtitle: ["of 32 rows"],
      heads: 3,
      panels: [
        { title: "recall", values: [[0, 0.5, 1], [], [null, 0.25, 0.75]], domain },
        { title: "mass", values: [[1, 1, 1]] },
      ],
    });
  const cells = (svg: string) =>
    Array.from(svg.matchAll(/aria-label="head: (\d+); layer: (\d+); value: ([\d.]+)"[^>]*d="M([\d.]+),([\d.]+)h/g), (match) => match.slice(1, 6).map(Number)); // prettier-ignore

  it("has a cell for each number, layers upwards", async () => {
    const svg = await svgOf([0, 1]);
    expectWellFormed(svg);
    const drawn = cells(svg);
    expect(drawn.map(([head, layer, value]) => [layer, head, value])).toEqual([
      [0, 0, 0],
      [0, 1, 0.5],
      [0, 2, 1],
      [2, 1, 0.25],
      [2, 2, 0.75],
      ...[0, 1, 2].map((head) => [0, head, 1]),
    ]);
    const [x, y] = [3, 4].map((at) => drawn.map((cell) => cell[at]));
    expect(x[0]).toBeLessThan(x[1]);
    expect(y[0]).toBeGreaterThan(y[3]);
    for (const text of ["Recall", "of 32 rows", "recall", "mass", "head", "layer"])
      expect(textsOf(svg)).toContain(text);
  });

  it("has colours of the values, or of a range that is given", async () => {
    const fills = async (domain?: readonly [number, number]) =>
      Array.from((await svgOf(domain)).matchAll(/aria-label="head: 2; layer: 0; value: 1"[^>]*fill="([^"]+)"/g), ([, fill]) => fill)[0]; // prettier-ignore
    expect(await fills([0, 4])).not.toBe(await fills([0, 1]));
    expect(await fills()).toBe(await fills([0, 1]));
    expect(await fills([0, 0.5])).toBe(await fills([0, 1])); // beyond the range is the last colour
  });

  it("draws ratios around 1, and frames around marked heads", async () => {
    const values = [[0.01, 1, 100], [10, 0.1, 3]]; // prettier-ignore
    const margins = { title: "Margins", heads: 3, panels: [{ title: "margin", values, ratio: true, about: "over others" }] } as const; // prettier-ignore
    const svg = await headFigure({ ...margins, marked: [[1, 2]] });
    expectWellFormed(svg);
    const fills = Array.from(svg.matchAll(/aria-label="head: (\d); layer: (\d); value: [\d.]+"[^>]*fill="([^"]+)"/g), (match) => match[3]); // prettier-ignore
    const [red, pale, blue] = ["rgb(178, 64, 42)", "rgb(243, 244, 248)", "rgb(8, 48, 107)"];
    expect(fills.slice(0, 5)).toEqual([red, pale, blue, blue, red]);
    expect([red, pale, blue]).not.toContain(fills[5]);
    const frames = (text: string) => Array.from(text.matchAll(/aria-label="head: (\d); layer: (\d)"[^>]*stroke="#1b1b1f"/g), (match) => match.slice(1)); // prettier-ignore
    expect(frames(svg)).toEqual([["2", "1"]]);
    expect(frames(await headFigure(margins))).toEqual([]);
    for (const text of ["over others", "0.1", "10"]) expect(textsOf(svg)).toContain(text);
  });
});
