import { expect, it } from "vitest";
import { compareTraces, deviationOf, traceOf } from "../src/index.ts";
import { tinyIds, tinyModels } from "./devices.ts";

it("a deviation is a share of what was expected, and infinite where something is no number", () => {
  expect(deviationOf([1, 2, -4], [1, 2, -4])).toEqual({ largest: 0, rms: 0 });
  const { largest, rms } = deviationOf([1, 2.5, -4], [1, 2, -4]);
  expect(largest).toBeCloseTo(0.5 / 4, 12);
  expect(rms).toBeCloseTo(0.5 / Math.sqrt(21), 12);
  for (const wrong of [NaN, Infinity])
    expect(deviationOf([1, wrong], [1, 2])).toEqual({ largest: Infinity, rms: Infinity });
  expect(deviationOf([0, 1e-9], [0, 0])).toEqual({ largest: Infinity, rms: Infinity });
  expect(() => deviationOf([1], [1, 2])).toThrow(/1 numbers cannot be compared with 2/);
});

it("traces of the cpu are those of the reference, layer by layer", async () => {
  const models = tinyModels({ layerCount: 3, slidingWindows: [null, null, null] });
  const ids = tinyIds(20);
  const expected = await traceOf(models.reference, ids);
  const computed = await traceOf(models.cpu, ids, { chunk: 6 });
  expect(expected.hidden.map((stream) => stream.length)).toEqual([480, 480, 480]);
  const { tokens, hidden, logits, sameTop } = compareTraces(computed, expected);
  expect({ tokens, sameTop }).toEqual({ tokens: 20, sameTop: 20 });
  expect(hidden[0]).toEqual({ largest: 0, rms: 0 }); // the embedding is copied
  for (const { largest, rms } of [...hidden.slice(1), logits]) {
    expect(largest).toBeLessThan(1e-5);
    expect(rms).toBeLessThan(1e-5);
    expect(rms).toBeGreaterThan(0);
  }
  await models.cpu.dispose();
});

it("a reference that overflows is refused, and a device that does is never taken for equal", () => {
  const trace = (...logits: number[]) => ({
    tokens: 2,
    hidden: [Float32Array.of(1, 2, 3, 4)],
    logits: Float32Array.from(logits),
  });
  const whole = trace(0, 1, 2, 1);
  expect(compareTraces(whole, whole).sameTop).toBe(2);
  const broken = trace(0, 1, NaN, NaN);
  expect(compareTraces(broken, whole)).toMatchObject({ sameTop: 1, logits: { largest: Infinity, rms: Infinity } });
  expect(() => compareTraces(whole, broken)).toThrow(/row of logits holds NaN at token 1 already in the reference/);
  expect(() => compareTraces(whole, { ...whole, hidden: [Float32Array.of(1, Infinity, 3, 4)] })).toThrow(
    /before layer 0 holds Infinity at token 0/,
  );
});
