import { describe, expect, it } from "vitest";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, tinyIds, tinyModels } from "./devices.ts";

const models = tinyModels({ layerCount: 1 });
const ids = tinyIds(1300);

/** What a query at the end of the text can know, in a model of one layer: s first tokens and w last ones. */
const METHODS: readonly (readonly [spec: string, sinks: number, window: number])[] = [
  ["sliding:window=20", 0, 20],
  ["streaming:sinks=4,window=20", 4, 20],
  ["lm-infinite:sinks=4,window=20", 4, 20],
  ["sliding:window=20+rerope:window=5+yarn:factor=4", 0, 20],
  ["sliding:window=20+self-extend:window=6,group=3", 0, 20],
];

describe.each(DEVICES)("%s", (device) => {
  it.each(METHODS)("%s reads a text of any length in the same memory", async (spec, sinks, window) => {
    const session = models[device].session({ method: methods.parse(spec), chunk: 16 });
    expect(session.layout).toEqual({ capacity: sinks + window + 15, pinned: sinks });
    await session.prefill(ids.slice(0, 300));
    for (const id of ids.slice(300, 340)) await session.prefill([id]);
    const { bytes } = session;
    expect(bytes).toBeGreaterThanOrEqual(session.layout.capacity * 2 * 16 * 4); // keys and values of 2 heads of 8
    await session.prefill(ids.slice(340, 1250));
    for (const id of ids.slice(1250)) await session.prefill([id]);
    expect(session.bytes).toBe(bytes);
    expect(session.length).toBe(1300);
    // Everything between was forgotten, so any text with the same ends gives the same.
    const other = models[device].session({ method: methods.parse(spec), chunk: 16 });
    const middle = tinyIds(1300 - sinks - window, 9);
    await other.prefill([...ids.slice(0, sinks), ...middle, ...ids.slice(1300 - window)]);
    expect(difference(other.lastLogits!, session.lastLogits!)).toBeLessThan(1e-4);
  });
});
