import { afterEach, describe, expect, it, vi } from "vitest";
import { LongctxError, Weights, type ModelConfig, type WeightTensor } from "@longctx/core";
import { createWebGpu, openGpu } from "../../../src/webgpu/index.ts";
import { storedBytes } from "../../../src/webgpu/weights/weights-packed.ts";
import { tinyConfig, tinyWeights } from "../../tiny-model.ts";
import { MockGpu } from "../mock-gpu.ts";

/** A decoder of two layers whose embedding and head have 32 MiB each. */
const config: ModelConfig = tinyConfig({
  vocabSize: 16_384,
  hiddenSize: 512,
  headSize: 8,
  rope: { type: "default", base: 100, rotarySize: 8 },
});

/** Zeros, read some rows at a time; `read` counts their bytes. */
function lazyWeights(): { readonly weights: Weights; readonly total: number; readonly read: { bytes: number } } {
  const small = tinyWeights(tinyConfig({ ...config, vocabSize: 32 }));
  const read = { bytes: 0 };
  const lazy = (name: string): WeightTensor => {
    const known = small.find(name)!;
    const shape = name === "embedding" || name === "head" ? [config.vocabSize, config.hiddenSize] : known.shape;
    if (shape.length === 1) return known;
    const rows = (from: number, to: number) => {
      read.bytes += 4 * (to - from) * shape[1];
      return new Uint8Array(4 * (to - from) * shape[1]);
    };
    return { ...known, shape, rows, bytes: () => expect.unreachable(`${name} was read as a whole`) };
  };
  const weights = new Weights(new Map([...small.names()].map((name) => [name, lazy(name)])));
  const total = [...weights.names()].reduce((sum, name) => sum + storedBytes(weights.find(name)!), 0);
  return { weights, total, read };
}

/** A clock on which every look takes a millisecond: how far loading comes in a slice does not depend on the machine. */
function slowClock(): void {
  let now = 0;
  vi.spyOn(performance, "now").mockImplementation(() => now++);
}
afterEach(() => vi.restoreAllMocks());

/** What `look` gives at every turn of the event loop while `work` goes on. */
async function atEveryTurn(work: Promise<unknown>, look: () => number): Promise<number[]> {
  const seen: number[] = [];
  let going = true;
  const turn = () => {
    seen.push(look());
    if (going) setImmediate(turn);
  };
  setImmediate(turn);
  await work.finally(() => (going = false));
  return seen;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "";
  } catch (error) {
    return error instanceof LongctxError ? error.code : `defect: ${String(error)}`;
  }
}

describe("while a model goes to the device", () => {
  it("the event loop goes round, and the device writes what it was handed", async () => {
    slowClock();
    const mock = new MockGpu();
    const { weights, total } = lazyWeights();
    const told: (readonly [number, number])[] = [];
    const work = createWebGpu(config, weights, { source: mock.source, onWeights: (...bytes) => told.push(bytes) });
    const writes = await atEveryTurn(work, () => mock.log.writes);
    const steps = writes.map((count, i) => count - (writes[i - 1] ?? 0));
    // 8 ms of pieces, a millisecond each, and the norms between them.
    expect(Math.max(...steps)).toBeLessThanOrEqual(24);
    expect(total / 2 ** 18 / 8).toBeGreaterThan(30);
    expect(steps.filter((count) => count > 0).length).toBeGreaterThan(30);
    // Each 32 MiB are waited for.
    expect(mock.log.submits).toBeGreaterThanOrEqual(Math.floor(total / 2 ** 25));
    expect(told.at(-1)).toEqual([total, total]);
    expect(told.length).toBeGreaterThan(30);
    expect(told.every(([done], i) => done >= (told[i - 1]?.[0] ?? 0) && done <= total)).toBe(true);
    await (await work).dispose();
    expect(mock.bytes).toBe(0);
  });

  it("a failure of the device ends it at once", async () => {
    slowClock();
    const mock = new MockGpu();
    const { weights, total, read } = lazyWeights();
    mock.failNext = "weights";
    expect(await codeOf(createWebGpu(config, weights, { source: mock.source }))).toBe("device");
    expect(read.bytes).toBeLessThan(total / 8);
    expect(mock).toMatchObject({ bytes: 0, deviceDestroyed: true, released: true });
  });
});

describe("an abort signal", () => {
  it.each([
    ["before", -1],
    ["while weights are uploaded", 0.3],
    ["while kernels are compiled", 1],
  ])("ends the loading and gives everything back: %s", async (_, share) => {
    slowClock();
    const mock = new MockGpu();
    const gpu = await openGpu({ source: mock.source });
    const { weights, read } = lazyWeights();
    const stop = new AbortController();
    const load = () =>
      createWebGpu(config, weights, {
        device: gpu,
        signal: stop.signal,
        onWeights: (done, total) => done >= share * total && stop.abort(),
      });
    if (share < 0) stop.abort();
    expect(await codeOf(load())).toBe("aborted");
    expect(read.bytes).toBeLessThan(share < 0 ? 1 : Infinity);
    expect(gpu.ledger.memory).toMatchObject({ weights: 0, cache: 0 });
    expect(mock.bytes).toBe(gpu.ledger.total);
    const backend = await createWebGpu(config, weights, { device: gpu });
    expect(gpu.ledger.of("weights")).toBeGreaterThan(2 ** 26);
    await backend.dispose();
    gpu.destroy();
    expect(mock.bytes).toBe(0);
  });

  it("closes a device of its own", async () => {
    const mock = new MockGpu();
    const stop = new AbortController();
    const options = { source: mock.source, signal: stop.signal, onWeights: () => stop.abort() };
    expect(await codeOf(createWebGpu(config, lazyWeights().weights, options))).toBe("aborted");
    expect(mock).toMatchObject({ bytes: 0, deviceDestroyed: true, released: true });
  });
});
