import { describe, expect, it } from "vitest";
import { DEVICES, tinyIds, tinyModels } from "./devices.ts";
import { parseMethod } from "../src/methods.ts";
import {
  expectRefusals,
  expectSameAfterwards,
  expectSameSeen,
  FORGETTING_SPECS,
  STOPPED_SPECS,
} from "./expect-stopped.ts";

const models = tinyModels({ layerCount: 3 });

describe.each(DEVICES)("a pass that stops after a layer on %s", (device) => {
  const model = models[device];

  it.each(STOPPED_SPECS)("shows what a whole pass shows of the layers up to it: %s", async (spec) => {
    await expectSameSeen(model, spec, 1e-6);
  });

  it.each(FORGETTING_SPECS)("leaves, once truncated, a session as if it had not been: %s", async (spec) => {
    await expectSameAfterwards(model, spec, 1e-5);
  });

  it("lets nobody read on before the session is truncated", () => expectRefusals(model));

  it("cannot be taken back where it evicted tokens", async () => {
    const session = model.session({ method: parseMethod("streaming:sinks=1,window=4"), chunk: 2 });
    await session.prefill(tinyIds(6));
    await session.prefill(tinyIds(20), { stopAfter: 0 });
    expect(() => session.truncate(6)).toThrow(/were evicted/);
    await expect(session.prefill([3])).rejects.toThrow(/Layers after 0 have not read tokens 6 to 25/);
  });

  it.each<[object, RegExp]>([
    [{ stopAfter: 3 }, /stopAfter is 3, but the model's layers go from 0 to 2/],
    [{ stopAfter: -1 }, /stopAfter is -1/],
    [{ stopAfter: 0.5 }, /stopAfter is 0.5/],
    [{ stopAfter: 1, logitRows: 2 }, /stops after layer 1 computes no logits, but 2 rows/],
  ])("refuses %o", async (options, message) => {
    const session = model.session();
    await expect(session.prefill(tinyIds(5), options)).rejects.toMatchObject({ code: "argument", message: expect.stringMatching(message) as string }); // prettier-ignore
    expect(session.length).toBe(0);
    await session.prefill(tinyIds(5), { stopAfter: 1, logitRows: 0 });
    expect(session.length).toBe(5);
  });
});
