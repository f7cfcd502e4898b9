import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { compose, LanguageModel, MethodRegistry, type ChunkContext, type Method } from "@longctx/core";
import { parallel, parallelDocuments, parallelWindows, windowMethods } from "../src/index.ts";
import { distances } from "../../rope/tests/distances.ts";
import { largestDifference, readText, tinyBackend, tinyConfig, tinyIds } from "../../core/tests/tiny-model.ts";

const config = tinyConfig();
const backend = tinyBackend();
const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
const ids = tinyIds(32);
const context = { config, trainedWindow: 32, layer: 0 };
const chunk = (first: number, count: number, promptLength: number): ChunkContext => ({
  ...context,
  first,
  count,
  length: promptLength,
  promptLength,
});

/** The positions of a prompt's tokens in a plan for the whole prompt. */
function positions(method: Method, count: number, promptLength = count): number[] {
  const { segments } = compose(method).plan(chunk(0, count, promptLength));
  const [{ keyPosition, queryPosition }] = segments;
  expect(new Set(segments.flatMap((s) => [s.keyPosition.id, s.queryPosition.id]))).toEqual(new Set([keyPosition.id]));
  return Array.from({ length: count }, (_, n) => {
    expect(queryPosition.at(n)).toBe(keyPosition.at(n));
    return keyPosition.at(n);
  });
}

describe("parallel", () => {
  it("cuts a prompt into equal windows and a task that begins behind them", () => {
    expect(positions(parallel({ windows: 2 }), 10)).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 5, 6]);
    expect(positions(parallel({ windows: 3 }), 8)).toEqual([0, 1, 0, 1, 0, 1, 2, 3]);
    expect(positions(parallel({ windows: 2, task: 1 }), 10)).toEqual([0, 1, 2, 3, 0, 1, 2, 3, 4, 5]);
    expect(positions(parallel({ windows: 2, task: 4 }), 10)).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 5, 6]);
    expect(positions(parallel({ windows: 3, task: 5 }), 8)).toEqual([0, 0, 0, 1, 2, 3, 4, 5]);
  });

  it("hides windows from each other and shows them all to the task and to what is generated", () => {
    const method = parallel({ windows: 2 });
    const seen = (m: number) => distances(method, config, m, { promptLength: 10 });
    expect(seen(2)).toEqual([2, 1, 0]);
    expect(seen(3)).toEqual([null, null, null, 0]);
    expect(seen(5)).toEqual([null, null, null, 2, 1, 0]);
    expect(seen(6)).toEqual([3, 2, 1, 3, 2, 1, 0]);
    expect(seen(11)).toEqual([8, 7, 6, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
  });

  it.each([parallel({ windows: 1 }), parallelWindows({ windows: [5] })])("of one window is the plain text: $spec", (method) => {
    for (let m = 0; m < 14; m++)
      expect(distances(method, config, m, { promptLength: 9 })).toEqual(Array.from({ length: m + 1 }, (_, n) => m - n));
  }); // prettier-ignore

  it("says the same of a query whatever chunk it is in, in no more segments than it needs", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 5 }),
        fc.integer({ min: 6, max: 40 }),
        fc.nat(45),
        fc.integer({ min: 1, max: 9 }),
        (windows, promptLength, first, count) => {
          const method = compose(parallel({ windows }));
          const { segments } = method.plan(chunk(first, count, promptLength));
          const width = Math.floor(promptLength / (windows + 1));
          const last = Math.min(Math.floor((first + count - 1) / width), windows);
          expect(segments).toHaveLength(last - Math.min(Math.floor(first / width), windows) + 1);
          for (let m = first; m < first + count; m++) {
            const mine = distances({ spec: "", axes: [], segments: () => [...segments] }, config, m);
            expect(mine).toEqual(distances(method, config, m, { promptLength }));
          }
        },
      ),
    );
  });

  it("refuses a prompt that is too short for its windows", async () => {
    const read = (windows: number, count: number, task?: number) =>
      model.session({ method: parallel({ windows, ...(task ? { task } : {}) }) }).prefill(ids.slice(0, count));
    await expect(read(3, 3)).rejects.toThrow("a prompt of 3 tokens cannot be cut into 3 windows and a task; give at least 4 tokens"); // prettier-ignore
    await expect(read(3, 7, 5)).rejects.toThrow("cannot be cut into 3 windows and a task of 5 tokens; give at least 8 tokens"); // prettier-ignore
    expect(await read(3, 4)).toHaveLength(32);
    expect(await read(3, 8, 5)).toHaveLength(32);
  });

  it("keeps its windows when a text goes on, in parts, token by token, forked and restored", async () => {
    const method = parallel({ windows: 3 });
    const whole = await readText(backend, compose(method), ids, { length: 20 });
    const rows = (from: number, to: number) => whole.slice(from * 32, to * 32);
    const session = model.session({ method, chunk: 7 });
    expect(largestDifference(await session.prefill(ids.slice(0, 20), { logitRows: 20 }), rows(0, 20))).toBeLessThan(1e-6); // prettier-ignore
    const restored = model.restoreSession(await session.save(), { method, chunk: 7 });
    for (const one of [session.fork(), restored])
      expect(largestDifference(await one.prefill(ids.slice(20), { logitRows: 12 }), rows(20, 32))).toBeLessThan(1e-6);
    const stepped = model.session({ method });
    for (const [m, id] of ids.entries()) {
      const options = m < 20 ? { length: 20 } : {};
      expect(largestDifference(await stepped.prefill([id], options), rows(m, m + 1))).toBeLessThan(1e-6);
    }
  });

  it("keeps what a window says from the others", async () => {
    const logits = await readText(backend, compose(parallel({ windows: 3 })), ids);
    const changed = ids.map((id, n) => (n === 1 ? (id + 7) % 32 : id)); // The windows have 8 tokens.
    const other = await readText(backend, compose(parallel({ windows: 3 })), changed);
    expect(other.slice(8 * 32, 24 * 32)).toEqual(logits.slice(8 * 32, 24 * 32));
    expect(largestDifference(other.slice(24 * 32), logits.slice(24 * 32))).toBeGreaterThan(1e-4);
    const second = await readText(backend, compose(), ids.slice(8, 16));
    expect(largestDifference(logits.slice(8 * 32, 16 * 32), second)).toBeLessThan(1e-6);
  });
});

describe("parallelWindows", () => {
  it("shares one BOS: windows of 5 and 3 tokens are a text of 7, and the task begins at 5", () => {
    const method = parallelWindows({ windows: [5, 3] });
    expect(positions(method, 10)).toEqual([0, 1, 2, 3, 4, 1, 2, 5, 6, 7]);
    const seen = (m: number) => distances(method, config, m);
    expect(seen(4)).toEqual([4, 3, 2, 1, 0]);
    expect(seen(6)).toEqual([2, null, null, null, null, 1, 0]);
    expect(seen(7)).toEqual([5, 4, 3, 2, 1, 4, 3, 0]);
    expect(seen(9)).toEqual([7, 6, 5, 4, 3, 6, 5, 2, 1, 0]);
  });

  it("knows its windows whatever the prompt", () => {
    const method = parallelWindows({ windows: [3, 6, 2], shared: 0 });
    expect(positions(method, 14, 5)).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 1, 6, 7, 8]);
    expect(positions(method, 14, 14)).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 1, 6, 7, 8]);
  });

  it("is what reading the windows one by one and joining their caches gives", async () => {
    // A document that is read alone behind its own BOS has the logits that it has in the joined text.
    const [bos, ...rest] = ids;
    const [a, b, task] = [rest.slice(0, 4), rest.slice(4, 6), rest.slice(6, 9)];
    const { ids: text, method } = parallelDocuments([a, b], task, [bos]);
    expect(text).toEqual(ids.slice(0, 10));
    expect(method.spec).toBe("parallel:windows=5/3,shared=1");
    const joined = await readText(backend, compose(method), text);
    const first = await readText(backend, compose(), [bos, ...a]);
    const second = await readText(backend, compose(), [bos, ...b]);
    expect(largestDifference(joined.slice(0, 5 * 32), first)).toBeLessThan(1e-6);
    expect(largestDifference(joined.slice(5 * 32, 7 * 32), second.slice(32))).toBeLessThan(1e-6);
  });

  it("does not depend on the order of windows of one length", async () => {
    const [a, b, task] = [ids.slice(0, 6), ids.slice(6, 12), ids.slice(12, 20)];
    const read = async (documents: number[][]) => {
      const { ids: text, method } = parallelDocuments(documents, task);
      return (await readText(backend, compose(method), text)).slice(12 * 32);
    };
    const ab = await read([a, b]);
    expect(largestDifference(await read([b, a]), ab)).toBeLessThan(1e-5);
    expect(largestDifference(await read([b, b]), ab)).toBeGreaterThan(1e-4);
  });

  it.each([
    [{ windows: [] }, "there are no windows"],
    [{ windows: [5, 1] }, "window 1 has 1 tokens, but needs a whole number of at least 2"],
    [{ windows: [5, 0], shared: 0 }, "window 1 has 0 tokens"],
    [{ windows: [5, 2.5] }, "window 1 has 2.5 tokens"],
    [{ windows: [5, 3], shared: -1 }, "shared is -1"],
    [{ windows: [5, 3], shared: Number.NaN }, "shared is NaN"],
  ])("%o is refused", (parameters, message) => {
    expect(() => parallelWindows(parameters)).toThrow(message);
  });
});

describe("parallel's row", () => {
  const registry = new MethodRegistry(windowMethods);
  it("is parsed and printed", () => {
    for (const spec of ["parallel:windows=3", "parallel:windows=3,task=20"])
      expect(registry.parse(spec)[0].spec).toBe(spec);
  });

  it.each([
    ["parallel", "parallel needs windows"],
    ["parallel:windows=0", "a whole number of at least 1"],
    ["parallel:windows=1.5", "a whole number of at least 1"],
    ["parallel:windows=2,task=0", "a whole number of at least 1"],
    ["parallel:windows=1,task=5", "task is 5, but one window is the whole prompt; leave task out"],
  ])("%s is refused", (spec, message) => {
    expect(() => registry.parse(spec)).toThrow(message);
  });
});
