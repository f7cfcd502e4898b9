import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { compose, type Backend, type ModelConfig } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { createWebGpu } from "../../../src/webgpu/index.ts";
import type * as Submissions from "../../../src/webgpu/device/submissions.ts";
import { inSteps, MOST_WORK, submissionEnds } from "../../../src/webgpu/device/submissions.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { gpuOrNull, relativeError } from "../device.ts";
import { failure } from "../failure.ts";
import { gpuError, MockGpu } from "../mock-gpu.ts";
import { planOf } from "../plan-of.ts";

/** The bound that the core's code has here: models that small would never reach the real one. */
const bound = vi.hoisted(() => ({ most: Infinity }));
vi.mock("../../../src/webgpu/device/submissions.ts", async (original) => {
  const { submissionEnds: ends, inSteps: steps, ...rest } = await original<typeof Submissions>();
  return {
    ...rest,
    submissionEnds: (all: Parameters<typeof ends>[0], most = bound.most) => ends(all, most),
    inSteps: (units: number, work: number, most = bound.most) => steps(units, work, most),
  };
});

const gpu = await gpuOrNull();
afterEach(() => void (bound.most = Infinity));
afterAll(() => gpu?.destroy());

describe("a submission", () => {
  const ends = (...work: (number | undefined)[]) => submissionEnds(work.map((one) => ({ work: one })), 10); // prettier-ignore

  it("holds what stays within the bound, and at least one dispatch", () => {
    expect(ends(4, 4, 4, 4, 4)).toEqual([2, 4, 5]);
    expect(ends(30, 30, undefined, 1)).toEqual([1, 3, 4]);
    expect(ends(undefined, 10, undefined, 10)).toEqual([3, 4]);
    expect(ends(undefined, undefined)).toEqual([2]);
    expect(ends()).toEqual([0]);
  });

  it("is a small part of the two seconds that Windows waits, on a GPU of 50·10⁹ multiply-adds a second", () => {
    expect(MOST_WORK / 50e9).toBeLessThan(0.5);
  });

  it("has steps of work that is too much for one", () => {
    expect(inSteps(8, 9, 10)).toEqual([{ from: 0, to: 8 }]);
    expect(inSteps(8, 25, 10)).toEqual([
      { from: 0, to: 2 },
      { from: 2, to: 5 },
      { from: 5, to: 8 },
    ]);
    expect(inSteps(2, 1000, 10)).toHaveLength(2);
    for (const units of [1, 7, 64])
      expect(inSteps(units, 333, 10).reduce((sum, { from, to }) => sum + to - from, 0)).toBe(units);
  });
});

const SIZES = { headSize: 16, queryHeads: 4, keyHeads: 2, hiddenSize: 64, rope: { type: "default", base: 100, rotarySize: 16 } } as const; // prettier-ignore
const EXPERTS = { count: 4, perToken: 2, feedForwardSize: 32, renormalise: true };

async function logitsOf(backend: Backend, chunks: readonly number[]) {
  const cache = backend.createState({ capacity: 128, pinned: 128 });
  const all: number[] = [];
  for (const count of chunks) {
    const plan = planOf(backend.config, compose(), cache, count);
    all.push(...(await backend.forward({ state: cache, ids: tinyIds(count), plan, logitRows: count })));
  }
  cache.dispose();
  return all;
}

describe("on a mocked device", () => {
  const modelOn = (mock: MockGpu, changes: Partial<ModelConfig> = {}) => {
    const config = tinyConfig({ ...SIZES, ...changes });
    return createWebGpu(config, tinyWeights(config), { source: mock.source });
  };

  it("a chunk of much work is several submissions of one pass, its uniforms written once", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const step = async (most: number, count = 40) => {
      bound.most = most;
      const cache = backend.createState({ capacity: 128, pinned: 128 });
      mock.dispatched = [];
      const { submits, passes, writes } = mock.log;
      await backend.forward({ state: cache, ids: tinyIds(count), plan: planOf(backend.config, compose(), cache, count), logitRows: 1 }); // prettier-ignore
      const { log } = mock;
      return { submits: log.submits - submits, passes: log.passes - passes, writes: log.writes - writes, kinds: mock.dispatched }; // prettier-ignore
    };
    await step(Infinity);
    const whole = await step(Infinity);
    expect(whole).toMatchObject({ submits: 1, passes: 1 });
    const cut = await step(500_000);
    expect(cut.submits).toBeGreaterThan(3);
    expect(cut).toMatchObject({ passes: cut.submits, writes: whole.writes, kinds: whole.kinds });
    const torn = await step(50_000, 41); // products and attention in steps too, where they are made anew
    expect(torn.submits).toBeGreaterThan(cut.submits);
    expect(torn.kinds.length).toBeGreaterThan(whole.kinds.length);
    await backend.dispose();
  });

  it.each([{}, { experts: EXPERTS }])("a single token is one, whatever its work is: %o", async (changes) => {
    const mock = new MockGpu();
    const backend = await modelOn(mock, changes);
    bound.most = 1;
    const cache = backend.createState({ capacity: 128, pinned: 128 });
    const { submits, passes } = mock.log;
    await backend.forward({ state: cache, ids: [1], plan: planOf(backend.config, compose(), cache, 1), logitRows: 1 });
    expect(mock.log).toMatchObject({ submits: submits + 1, passes: passes + 1 });
    await backend.dispose();
  });

  it("says what went wrong in any of them", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    bound.most = 100_000;
    mock.scopeErrors = [null, null, gpuError("GPUOutOfMemoryError", "no room")];
    expect(await failure(() => logitsOf(backend, [40]))).toMatch(/^device: A mocked adapter is out of memory/);
    await backend.dispose();
  });
});

describe.skipIf(!gpu)("on the device", () => {
  it.each([{}, { experts: EXPERTS }])("a chunk in many submissions is what it is in one: %o", async (changes) => {
    const config = tinyConfig({ ...SIZES, ...changes });
    const expected = await logitsOf(createReference(config, tinyWeights(config)), [70, 33]);
    const backend = await createWebGpu(config, tinyWeights(config), { device: gpu! });
    for (const most of [500_000, 20_000]) {
      bound.most = most;
      expect(relativeError(await logitsOf(backend, [70, 33]), expected)).toBeLessThan(1e-5);
    }
    await backend.dispose();
  });
});
