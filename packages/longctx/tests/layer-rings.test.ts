import { describe, expect, it } from "vitest";
import { DEVICES, difference, tinyIds, tinyModels, TOLERANCE } from "./devices.ts";
import { readInParts, unlike } from "./layer-rings.ts";

const models = tinyModels();

describe.each(DEVICES)("rings of unlike layers on the %s", (device) => {
  it.each([1, 7, 16])("give what equal rings give, in chunks of %d", async (chunk) => {
    const expected = await readInParts(models.reference, unlike(false), chunk);
    const computed = await readInParts(models[device], unlike(true), chunk);
    computed.forEach((logits, i) => expect(difference(logits, expected[i])).toBeLessThan(TOLERANCE[device]));
  });

  it("hold less, and have room as long as the shortest that evicts nothing", async () => {
    const [bounded, whole] = [true, false].map((is) => models[device].session({ method: unlike(is), chunk: 8, capacity: 48 })); // prettier-ignore
    expect(bounded.layouts).toEqual([{ capacity: 48, pinned: 48 }, { capacity: 13, pinned: 0 }]); // prettier-ignore
    expect(bounded.room).toBe(48);
    for (const session of [bounded, whole]) await session.prefill(tinyIds(8));
    expect(bounded.bytes).toBeLessThan(whole.bytes);
    await bounded.prefill(tinyIds(40));
    expect(() => bounded.truncate(20)).toThrow(/evicted/);
    expect(bounded.length).toBe(48);
    await expect(bounded.prefill(tinyIds(1))).rejects.toThrow(/has 49 tokens, but the cache holds 48/);
  });
});
