import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli } from "./command-line.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-reading-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const STORY =
  "the sailor looked at the hill late at night . remember : amber walnut . the baker sat by the river . ".repeat(3);

describe("longctx perplexity", () => {
  interface Losses {
    tokens: number;
    nats: number;
    blocks: { from: number; to: number; predictions: number; nats: number }[];
  }
  const path = join(folder, "story.txt");
  writeFileSync(path, STORY);
  const losses = async (...more: string[]): Promise<Losses> => {
    const { code, out } = await cli(["perplexity", "tiny", path, "--json", "--device", "reference", ...more]);
    expect(code).toBe(0);
    return JSON.parse(out) as Losses;
  };

  it("agrees with the logits of the same tokens, block by block", async () => {
    const { out } = await cli(["tokenize", "tiny", STORY, "--json"]);
    const { ids } = JSON.parse(out) as { ids: number[] };
    writeFileSync(join(folder, "ids.json"), JSON.stringify(ids));
    await cli([
      "logits",
      "tiny",
      "--ids",
      join(folder, "ids.json"),
      "--out",
      join(folder, "logits.json"),
      "--device",
      "reference",
    ]);
    const { logits } = JSON.parse(readFileSync(join(folder, "logits.json"), "utf8")) as { logits: number[][] };
    const expected = ids
      .slice(1)
      .map((id, i) => Math.log(logits[i].reduce((sum, value) => sum + Math.exp(value), 0)) - logits[i][id]);
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

    const { blocks, tokens, nats } = await losses("--block", "16", "--chunk", "7");
    expect(tokens).toBe(ids.length);
    expect(blocks[1]).toMatchObject({ from: 17, to: 32, predictions: 16 });
    expect(blocks.at(-1)!.to).toBe(ids.length - 1);
    blocks.forEach((block, k) => expect(block.nats).toBeCloseTo(mean(expected.slice(16 * k, 16 * (k + 1))), 5));
    expect(nats).toBeCloseTo(mean(expected), 5);
  });

  it("reads only as far as asked", async () => {
    const { tokens, blocks } = await losses("--length", "10");
    expect([tokens, blocks.length, blocks[0].predictions]).toEqual([10, 1, 9]);
  });

  it("prints a line a block, and the whole", async () => {
    const { out, err } = await cli([
      "perplexity",
      "tiny",
      path,
      "--block",
      "32",
      "--device",
      "reference",
      "--method",
      "interpolation:factor=2",
    ]);
    expect(out).toMatch(/^tokens\s+predictions\s+nats\s+perplexity\n1\.\.32\s+32\s/);
    expect(err).toContain("under interpolation:factor=2");
  });
});

describe("longctx generate", () => {
  const generate = (...argv: string[]) => cli(["generate", "tiny", ...argv, "--device", "reference"]);
  const question = "remember : amber walnut . the sailor looked at the hill late at night . remember : amber";

  it("answers from the prompt: the text alone on stdout, the figures on stderr", async () => {
    const { code, out, err } = await generate(question, "--max-new", "1");
    expect(code).toBe(0);
    expect(out.trim()).toBe("walnut");
    expect(err).toMatch(/^prompt \d+ tokens, [\d.]+ tok\/s; new 1 tokens, .* tok\/s; cache [\d.]+ \w+; end: length\n$/);
  });

  it("is greedy, and draws the same with the same seed", async () => {
    const greedy = await generate(question, "--max-new", "12");
    expect((await generate(question, "--max-new", "12", "--temperature", "1", "--top-k", "1", "--seed", "5")).out).toBe(
      greedy.out,
    );
    const drawn = (seed: string) =>
      generate(question, "--max-new", "12", "--temperature", "2", "--seed", seed).then(({ out }) => out);
    expect(await drawn("7")).toBe(await drawn("7"));
    expect(new Set([await drawn("1"), await drawn("2"), await drawn("3")]).size).toBeGreaterThan(1);
  });

  it("says why it ended", async () => {
    const whole = await generate(question, "--max-new", "12");
    const word = whole.out.trim().split(" ")[2];
    const stopped = await generate(question, "--max-new", "12", "--stop", word);
    expect(stopped.err).toContain("end: stop");
    expect(whole.out.startsWith(stopped.out)).toBe(true);
    expect(stopped.out).not.toContain(word);
    const { ids } = JSON.parse((await cli(["tokenize", "tiny", question, "--json"])).out) as { ids: number[] };
    expect((await generate(question, "--max-new", "12", "--capacity", String(ids.length + 2))).err).toContain(
      "end: capacity",
    );
  });

  it("stops at once on Ctrl-C, with 130", async () => {
    const controller = new AbortController();
    controller.abort();
    const { code, out, err } = await cli(["generate", "tiny", question, "--device", "reference"], {
      signal: controller.signal,
    });
    expect([code, out]).toEqual([130, ""]);
    expect(err).toMatch(/^longctx: [^\n]+\n$/);
  });
});
