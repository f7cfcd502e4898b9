import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { findSmolLM2, load } from "longctx";
import { rerope } from "../definitions/definitions.ts";
import { TRAINED_WINDOW, type Case } from "../definitions/cases.ts";
import { difference, judgeOf } from "../definitions/judge.ts";
import { findChromium, launch } from "./chromium.ts";
import { serveSite, type Site } from "./site.ts";
import type { Reading, TestPage } from "./site/test-page.ts";

const chromium = findChromium();
if (!chromium)
  console.warn("Skipped: the packages in a page, for there is no Chromium here; install it, or set LONGCTX_CHROMIUM.");
const smollm2 = process.env.LONGCTX_SMOLLM2 ? findSmolLM2() : null;
if (chromium && !smollm2)
  console.warn("Skipped: SmolLM2 in a page; set LONGCTX_SMOLLM2 to its .gguf file (minutes on a software adapter).");

const TOLERANCE = 1e-3;

describe.skipIf(chromium === null)("the packages in a page", () => {
  let site: Site;
  let browser: Browser;
  let page: Page;
  /** What a page that works has none of. */
  let complaints: string[];

  beforeAll(async () => {
    [site, browser] = await Promise.all([serveSite(), launch(chromium!)]);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await site?.close();
  });

  const open = async () => {
    page = await browser.newPage();
    complaints = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => {
      const url = request.url();
      if (![site.origin, "data:", "blob:"].some((start) => url.startsWith(start))) complaints.push(`asked for ${url}`);
    });
    await page.goto(site.origin);
  };
  afterEach(async () => {
    await page?.close();
  });

  it("are bundled as they come: no word from vite, and nothing of Node in the code", () => {
    expect(site.warnings).toEqual([]);
    expect(site.code).not.toMatch(/node:|onnxruntime|vite-browser-external/);
  });

  it.each(["the page", "a worker"])("compute golden logits in %s", { timeout: 600_000 }, async (where) => {
    const judge = await judgeOf("llama");
    const texts = judge.texts.map(({ ids, logits }) => ({ spec: "none", ids, expected: logits }));
    const rerope12: Case = { spec: "rerope:window=12", parts: [rerope(12)] };
    const defined = texts.map(({ ids }) => ({
      spec: rerope12.spec,
      ids,
      expected: judge.logits(rerope12, ids.length),
    }));
    const readings: readonly (Reading & { expected: ArrayLike<number> })[] = [...texts, ...defined];
    await open();
    const request = {
      urls: ["llama/config.json", "llama/model.safetensors"],
      readings: readings.map(({ spec, ids }) => ({ spec, ids })),
      trainedWindow: TRAINED_WINDOW,
      chunk: 64,
      worker: where === "a worker",
    };
    const computed = await page.evaluate(
      (asked) => (globalThis as unknown as { page: TestPage }).page.logits(asked),
      request,
    );
    for (const [i, { spec, ids, expected }] of readings.entries())
      expect(difference(computed[i], expected), `${spec}, ${ids.length} tokens`).toBeLessThan(TOLERANCE);
    expect(complaints).toEqual([]);
  });

  it.skipIf(smollm2 === null)(
    "generate with SmolLM2, from a file that the page is given, what the cpu generates",
    { timeout: 900_000 },
    async () => {
      const prompt = "The capital of France is";
      const tokens = 8;
      const model = await load(smollm2!, { device: "cpu" });
      const generation = model
        .session({ capacity: 64 })
        .generate({ prompt: model.tokenizer!.encode(prompt), maxNew: tokens });
      const text = await generation.complete();
      await model.dispose();

      await open();
      page.setDefaultTimeout(0);
      await page.setInputFiles("[name=model]", smollm2!);
      await page.fill("[name=prompt]", prompt);
      await page.fill("[name=tokens]", String(tokens));
      await page.click("button");
      const outcome = await page.evaluate(() => (globalThis as unknown as { page: TestPage }).page.outcome);
      expect(outcome).toMatchObject({ ids: generation.ids, text });
      // A share, for on a busy machine everything takes longer; packing all at once was the whole of it.
      expect(outcome.upload.held).toBeLessThan(outcome.upload.duration / 2);
      expect(await page.textContent("output")).toBe(text);
      expect(complaints).toEqual([]);
    },
  );
});
