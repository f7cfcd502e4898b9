import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { load, measureRetrieval, parseMethod, spreadRows, type RetrievalMeasures } from "longctx";
import { afterAll, describe, expect, it } from "vitest";
import { run } from "../src/index.ts";
import { cli, LLAMA } from "./command-line.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-retrieval-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "story.txt");
writeFileSync(path, "the sailor looked at the hill late at night . remember : amber walnut . the baker sat by the river . ".repeat(12)); // prettier-ignore
const METHOD = "blocks:size=8,top=2,local=32,exec=32";
const BASE = ["retrieval", "tiny", path, "--length", "200", "--device", "cpu"];

type Result = RetrievalMeasures & Readonly<Record<"method" | "device", string>> & { readonly tokens: number };

describe("longctx retrieval", () => {
  it("measures what the library measures, as JSON", async () => {
    const { code, out } = await cli([...BASE, "--method", METHOD, "--rows", "5", "--layers", "1,2-3", "--top", "9", "--json"]); // prettier-ignore
    expect(code).toBe(0);
    const result = JSON.parse(out) as Result;
    expect(result).toMatchObject({ device: "cpu", tokens: 200, aborted: false, top: 9, positions: "text" });
    expect(result.rows).toEqual([119, 139, 159, 179, 199]);
    const model = await load("tiny", { device: "cpu" });
    const ids = model.tokenizer!.encode(readFileSync(path, "utf8")).slice(0, 200);
    const session = model.session({ capacity: 200 }).fork({ method: parseMethod(METHOD) });
    const expected = await measureRetrieval(session, ids, { rows: spreadRows(100, 200, 5), layers: [1, 2, 3], top: 9 });
    expect(result.heads).toEqual(expected.heads);
    expect(result.layers).toEqual(expected.layers);
    await model.dispose();
  });

  it("prints a line a layer, and writes every head as CSV, JSON and a picture", async () => {
    const { code, out, err } = await cli([
      ...BASE,
      "--method",
      METHOD,
      "--rows",
      "4",
      "--from",
      "150",
      "--out",
      folder,
    ]);
    expect(code).toBe(0);
    expect(out).toMatch(/^layer {2}recall +kept +far +fetched +error\n +0 {2}\d\.\d{3}/);
    expect(out.trimEnd().split("\n")).toHaveLength(1 + 4 + 1);
    expect(err).toMatch(/^200 tokens under blocks:.*, 4 rows, .*; files in /m);
    const json = JSON.parse(readFileSync(join(folder, "retrieval.json"), "utf8")) as Result;
    const [titles, ...lines] = readFileSync(join(folder, "retrieval.csv"), "utf8").trimEnd().split("\r\n");
    expect(titles).toBe("layer,head,rows,recall,kept,far,fetched,error");
    expect(lines).toHaveLength(json.heads.length);
    lines.forEach((line, i) => {
      const { layer, head, rows, recall, kept, far, fetched, error } = json.heads[i];
      const values = line.split(",").map(Number);
      [layer, head, rows, recall!, kept, far, fetched!, error].forEach((value, at) =>
        expect(values[at]).toBeCloseTo(value, 5),
      );
    });
    const svg = readFileSync(join(folder, "retrieval.svg"), "utf8");
    for (const text of [
      METHOD.replace("blocks:", ""),
      "recall of the best far tokens",
      "attention mass kept",
      "relative error",
    ])
      expect(svg).toContain(text);
  });

  it("measures methods that evict, and leaves blank what they do not have", async () => {
    const { code, out } = await cli([
      ...BASE,
      "--method",
      "streaming:sinks=2,window=20",
      "--rows",
      "2",
      "--out",
      folder,
    ]);
    expect(code).toBe(0);
    expect(out).toMatch(/\n +0 {2}0\.000 +0\.\d{3} +0\.\d{3} +0\.000 +\d/);
    const plain = await cli([...BASE, "--rows", "2", "--out", folder]);
    expect(plain.out).toMatch(/\nmean +- +1\.000 +0\.000 +- +0\.000\n/);
    expect(readFileSync(join(folder, "retrieval.csv"), "utf8")).toMatch(/\r\n0,0,2,,1,0,,/);
    expect(readFileSync(join(folder, "retrieval.svg"), "utf8")).not.toContain("recall of the best");
  });

  it("keeps what was measured on Ctrl-C, with 130", async () => {
    const controller = new AbortController();
    let [out, err] = ["", ""];
    const into = mkdtempSync(join(folder, "stopped-"));
    const code = await run([...BASE, "--method", METHOD, "--rows", "40", "--from", "1", "--out", into], {
      out: (text) => (out += text),
      err: (text) => {
        err += text;
        if (/row [1-9]/.test(text)) controller.abort();
      },
      outIsTerminal: false,
      errIsTerminal: true,
      input: () => Promise.resolve(""),
      signal: controller.signal,
    });
    expect(code).toBe(130);
    expect(err).toMatch(/Measuring: row \d+ of 40, about \d+ s left/);
    expect(err).toMatch(/200 tokens under .*, stopped after \d+ of 40 rows, /);
    expect(out).toMatch(/^layer/);
    expect(readdirSync(into).sort()).toEqual(["retrieval.csv", "retrieval.json", "retrieval.svg"]);
    const { rows, aborted } = JSON.parse(readFileSync(join(into, "retrieval.json"), "utf8")) as Result;
    expect(aborted).toBe(true);
    expect(rows.length).toBeLessThan(40);
  });

  it("writes nothing when it is stopped before", async () => {
    const controller = new AbortController();
    controller.abort();
    const { code, out, err } = await cli([...BASE, "--method", METHOD], { signal: controller.signal });
    expect([code, out]).toEqual([130, ""]);
    expect(err).toMatch(/^longctx: [^\n]+\n$/);
  });

  it.each<[string, string[], RegExp]>([
    ["a method that is none", ["--method", "block"], /no method "block"/],
    ["layers that are none", ["--layers", "3-1"], /--layers has "3-1" in "3-1"; write layers as 0,5,10-14/],
    ["a layer that the model does not have", ["--layers", "4"], /no layer 4 to measure, the model has layers 0 to 3/],
    ["positions that are none", ["--positions", "middle"], /--positions is "middle", but has to be text or method/],
    ["no rows", ["--rows", "0"], /--rows is "0"/],
    ["a beginning behind the text", ["--from", "200"], /--from is 200, but the last of the 200 tokens is 199/],
    ["a text that is too short", ["--length", "9k"], /--length is 9216, but .* has \d+ tokens/],
    ["a folder that is not there", ["--out", join(folder, "nowhere")], /is not a folder; make it first/],
    [
      "positions that the method does not give",
      ["--positions", "method", "--method", "streaming:window=20"],
      /fetches none of them/,
    ],
  ])("refuses %s in one line", async (_, argv, message) => {
    const { code, out, err } = await cli([...BASE, ...argv]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(message);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
  });

  it("refuses a model without a tokenizer", async () => {
    expect((await cli(["retrieval", LLAMA, path])).err).toMatch(/has no tokenizer/);
  });
});
