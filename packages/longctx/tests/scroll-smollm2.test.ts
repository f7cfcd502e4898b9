import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findSmolLM2, load, scroll, type LanguageModel } from "longctx";
import { passkeyTask } from "../../tasks/src/index.ts";

const path = findSmolLM2();
if (path === null)
  console.warn(
    "Skipped: SmolLM2 is not on this machine; run `longctx fetch smollm2` or set LONGCTX_SMOLLM2 to its .gguf file.",
  );

describe.skipIf(path === null)("scroll with SmolLM2-135M-Instruct on the cpu", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await load(path!, { device: "cpu", precision: "fast" });
  }, 120_000);
  afterAll(() => model?.dispose());

  it("finds a passkey in a novel, with the heads and sizes that it takes by itself", { timeout: 300_000 }, async () => {
    const task = passkeyTask({ haystack: "novel" }).bind(model.tokenizer!);
    const { ids, passage, needles, refs } = task.prompt({ length: 2600, depth: 40, trial: 0, seed: 1 });
    const parts = {
      before: ids.slice(0, passage.start),
      text: ids.slice(passage.start, passage.end),
      question: ids.slice(passage.end),
    };
    const { answer, chunks, answeredFrom } = await scroll(model, parts, { maxNew: task.maxNew });
    expect(task.task.score(answer, refs)).toBe(1);
    expect(chunks).toHaveLength(3);
    const place = needles[0].start - passage.start;
    const best = answeredFrom.toSorted((a, b) => b.score - a.score)[0];
    expect(place <= best.from && best.to <= needles[0].end - passage.start).toBe(true);
    // Nothing that was passed over comes near the needle.
    const dropped = Math.max(...chunks.filter(({ to }) => to > place).map((chunk) => chunk.dropped));
    expect(best.score).toBeGreaterThan(3 * dropped);
  });
});
