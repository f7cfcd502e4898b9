import { afterEach, describe, expect, it, vi } from "vitest";
import { restUntil } from "../../../src/webgpu/device/readback.ts";

const later = (act: () => void) => setTimeout(act, 20);

describe("waiting for a software adapter", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("naps until the result is there, and gives it or why there is none", async () => {
    const nap = vi.spyOn(Atomics, "wait");
    expect(await restUntil(new Promise((resolve) => void later(() => resolve(7))))).toBe(7);
    expect(nap.mock.calls.length).toBeGreaterThan(1);
    nap.mockRestore();
    const failing = new Promise((_, reject) => void later(() => reject(new Error("lost"))));
    await expect(restUntil(failing)).rejects.toThrow("lost");
  });

  it("does not nap in a page, whose main thread must not sleep, though a library gives it setImmediate", async () => {
    vi.stubGlobal("process", undefined);
    vi.stubGlobal("SharedArrayBuffer", undefined); // pages have it only where they ask for isolation
    const waiting = restUntil(Promise.resolve(7));
    vi.unstubAllGlobals();
    expect(await waiting).toBe(7);
  });
});
