import { inflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { compose, constantPosition, type Method } from "@longctx/core";
import { colourAt, distanceColours } from "../src/distance-colours.ts";
import { lineFigure, methodFigure } from "../src/index.ts";
import { pngDataUri } from "../src/png.ts";
import { expectWellFormed, textsOf } from "./well-formed.ts";

const plain = compose();
const far: Method = {
  spec: "far:window=4",
  axes: ["distance"],
  segments: ([base]) => [
    { ...base, band: { from: 0, to: 4 } },
    { ...base, queryPosition: constantPosition(4), keyPosition: constantPosition(0), band: { from: 4, to: 8 } },
  ],
};
const options = { trainedWindow: 8, length: 12, rope: { rotarySize: 8 } };

/** The colours of the map in a picture, [cells, cells]; null where it is blank. */
function mapOf(svg: string): { readonly cells: number; readonly colours: (string | null)[] } {
  const png = Buffer.from(/data:image\/png;base64,([^"]+)"/.exec(svg)![1], "base64");
  const cells = png.readUInt32BE(16);
  const chunk = (type: string): Buffer => {
    const at = png.indexOf(type);
    return png.subarray(at + 4, at + 4 + png.readUInt32BE(at - 4));
  };
  const palette = chunk("PLTE");
  const rows = inflateSync(chunk("IDAT"));
  const colours = Array.from({ length: cells * cells }, (_, cell) => {
    const index = rows[Math.floor(cell / cells) * (cells + 1) + 1 + (cell % cells)];
    return index === 0 ? null : [...palette.subarray(3 * index, 3 * index + 3)].join(",");
  });
  return { cells, colours };
}

describe("methodFigure", () => {
  it("maps every pair of a short text, blank where nothing is seen", async () => {
    const { cells, colours } = mapOf(await methodFigure(far, options));
    expect(cells).toBe(12);
    const seen = (m: number, n: number) => colours[m * 12 + n];
    for (let m = 0; m < 12; m++) for (let n = 0; n < 12; n++) expect(seen(m, n) === null).toBe(n > m || m - n >= 8);
    expect(seen(11, 4)).toBe(seen(11, 7)); // both at distance 4
    expect(seen(11, 8)).not.toBe(seen(11, 7));
  });

  it("has at most 96 cells a side and stays small, whatever the length", async () => {
    const svg = await methodFigure(plain, { ...options, length: 100_000 });
    expect(mapOf(svg).cells).toBe(96);
    expect(svg.length).toBeLessThan(100_000);
    expectWellFormed(svg);
  });

  it("says what is in the picture", async () => {
    const svg = await methodFigure(plain, options);
    for (const text of [
      "none",
      "token n",
      "query m",
      "rotary pair i",
      "one turn",
      "a text of 12 tokens, trained on distances below 8; distances from 0 to 11",
      "3 of 4 rotary pairs never complete a turn in training; 3 meet angles that were not seen there",
    ])
      expect(textsOf(svg)).toContain(text);
    const within = textsOf(await methodFigure(plain, { ...options, length: 8 })).join("\n");
    expect(within).toContain("none meets angles");
  });

  it("draws pairs that stand still, and texts of one token", async () => {
    const still: Method = {
      spec: "still",
      axes: ["frequencies"],
      frequencies: () => ({ id: "still", inverse: Float64Array.of(1, 0.1, 0, 0), amplitude: 1.5 }),
    };
    const svg = await methodFigure(still, options);
    expect(textsOf(svg)).toContain("do not turn");
    expect(textsOf(svg)).toContain("scores of the last query times 2.250");
    expectWellFormed(await methodFigure(plain, { ...options, length: 1 }));
  });

  it("is the same every time", async () => {
    expect(await methodFigure(far, options)).toBe(await methodFigure(far, options));
  });

  it("refuses texts that would take minutes", async () => {
    await expect(methodFigure(plain, { length: 2 ** 21 })).rejects.toThrow("at most 1048576 tokens");
  });
});

describe("colours", () => {
  it("turn red beyond the trained window and grey below 0", () => {
    const stops = distanceColours(100, -5, 300);
    const [red, green, blue] = colourAt(stops, 101);
    expect(red).toBeGreaterThan(2 * Math.max(green, blue));
    const [r, g, b] = colourAt(stops, -3);
    expect(Math.max(r, g, b) - Math.min(r, g, b)).toBeLessThan(20);
    expect(colourAt(stops, 1000)).toEqual(colourAt(stops, 300));
    expect(colourAt(distanceColours(100, 0, 50), 0)).toEqual([...distanceColours(100, 0, 50)[0].colour]);
  });
});

it("a picture has the bytes of the PNG specification", () => {
  const bytes = Buffer.from(pngDataUri(2, 1, [[255, 0, 0], null]).split(",")[1], "base64");
  expect(bytes.subarray(0, 8).toString("hex")).toBe("89504e470d0a1a0a");
  // The last chunk and its checksum are the same in every PNG.
  expect(bytes.subarray(-12).toString("hex")).toBe("0000000049454e44ae426082");
});

describe("lineFigure", () => {
  it("draws every series and says its name", async () => {
    const series = ["a < b", "c & d"].map((name, index) => ({
      name,
      points: [1, 2, 3].map((x) => ({ x, y: x ** (index + 1) })),
    }));
    const svg = await lineFigure({
      title: "Curves",
      x: { title: "tokens" },
      y: { title: "nats", log: true },
      series,
      mark: { x: 2, text: "trained window" },
    });
    expectWellFormed(svg);
    for (const text of ["Curves", "tokens", "nats", "a &lt; b", "c &amp; d", "trained window"])
      expect(textsOf(svg)).toContain(text);
  });
});
