import { describe, expect, it } from "vitest";
import { LongctxError, stateless, type Method } from "@longctx/core";
import { meanMemory } from "../../core/tests/example-methods.ts";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, tinyIds, tinyModels } from "./devices.ts";

const models = tinyModels();
const ids = tinyIds(90, 5);
const methodOf = (spec: string): Method[] => (spec === "mean-memory" ? [meanMemory] : methods.parse(spec));
const place = "size=8,local=16,sinks=2,exec=16";

describe.each(DEVICES)("a session on %s goes on under other methods", (device) => {
  const model = models[device];
  const options = { chunk: 16, capacity: 128 };
  const read = async (spec: string) => {
    const session = model.session({ ...options, method: methodOf(spec) });
    await session.prefill(ids.slice(0, 70));
    return session;
  };

  it("and leaves its trunk as it was", async () => {
    const [trunk, alone] = [await read("none"), await read("none")];
    const fork = trunk.fork({ method: methods.parse("rerope:window=4") });
    await fork.prefill(ids.slice(70));
    expect(await trunk.prefill(ids.slice(70))).toEqual(await alone.prefill(ids.slice(70)));
    expect(fork.options).toMatchObject(options);
    expect(fork.lastLogits).not.toEqual(trunk.lastLogits);
  });

  it("as itself, when the methods are the same", async () => {
    const trunk = await read(`blocks:${place},top=2`);
    const fork = trunk.fork({ method: trunk.method });
    expect(await fork.prefill(ids.slice(70))).toEqual(await trunk.prefill(ids.slice(70)));
  });

  it.each([`oracle-block:${place},from=20,to=30`, `random-blocks:${place},top=2,seed=7`])(
    "as a control of block retrieval, as on the reference: %s",
    async (spec) => {
      const logits: Float32Array[] = [];
      for (const one of [models.reference, model]) {
        const trunk = one.session({ ...options, method: methodOf(`blocks:${place},top=3`) });
        await trunk.prefill(ids.slice(0, 70));
        const fork = trunk.fork({ method: methodOf(spec) });
        logits.push(await fork.prefill(ids.slice(70), { logitRows: 20 }));
      }
      expect(difference(logits[1], logits[0])).toBeLessThan(1e-4);
    },
  );

  it("with a hook that looks on, also beside a memory", async () => {
    const seen: number[] = [];
    const watch: Method = {
      spec: "watch",
      axes: [],
      hook: {
        layers: (layer) => layer === 1,
        create: () => stateless({ plan: (plan, { first }) => (seen.push(first), plan) }),
      },
    };
    const trunk = await read("infini:segment=16,beta=0.3");
    const fork = trunk.fork({ method: [...trunk.method.parts, watch] });
    const expected = await trunk.prefill(ids.slice(70));
    expect(difference(await fork.prefill(ids.slice(70)), expected)).toBeLessThan(1e-5);
    expect(seen).toEqual([70, 86]);
  });

  it("from its first token on whatever the methods are", () => {
    for (const spec of ["infini:segment=16,beta=0.3", "mean-memory", "prefix:length=9", "streaming:window=9"])
      expect(model.session(options).fork({ method: methodOf(spec) }).length).toBe(0);
  });

  it.each<[string, string, RegExp]>([
    [
      "streaming:sinks=2,window=20",
      "none",
      /layer 0 keeps the first 2 and the last 35 tokens, and none needs the whole/,
    ],
    ["streaming:sinks=2,window=20", "streaming:sinks=3,window=20", /needs the first 3/],
    ["streaming:sinks=2,window=20", "lm-infinite:sinks=0,window=40", /needs the last 55/],
    ["infini:segment=16,beta=0.3", "none", /memory that it no longer keeps/],
    [
      "none",
      "infini:segment=16,beta=0.3",
      /memory of infini:segment=16,beta=0.3 was not written for the 70 tokens read/,
    ],
    ["none", "mean-memory", /hook of .* has not seen the 70 tokens/],
    ["prefix:length=9", "none", /the first 9 tokens have seen each other/],
    ["none", "prefix:length=80", /first 80 tokens see each other, and only 70 are read/],
    ["none", "knn:window=9,layers=7", /knn: layers names layer 7/],
  ])("but not from %s to %s", async (before, after, message) => {
    const trunk = await read(before);
    const fork = () => trunk.fork({ method: methodOf(after) });
    expect(fork).toThrow(LongctxError);
    expect(fork).toThrow(message);
    expect(fork).not.toThrow(/\n/);
    await trunk.prefill(ids.slice(70));
  });
});

describe("salient keys", () => {
  const salient = (local: number) =>
    methodOf(`blocks:size=8,top=2,local=${local},sinks=2,exec=16,representative=salient`);
  const trunkOf = async (method: Method[]) => {
    const trunk = models.reference.session({ method, capacity: 128 });
    await trunk.prefill(ids.slice(0, 70));
    return trunk;
  };

  it("go on where the same attention was counted", async () => {
    const trunk = await trunkOf(salient(16));
    const fork = trunk.fork({ method: salient(16) });
    expect(await fork.prefill(ids.slice(70))).toEqual(await trunk.prefill(ids.slice(70)));
  });

  it("are refused where it was not", async () => {
    for (const before of [methodOf("none"), salient(20)]) {
      const trunk = await trunkOf(before);
      expect(() => trunk.fork({ method: salient(16) })).toThrow(/attention that tokens get within 16 tokens/);
    }
    const between = (await trunkOf(salient(16))).fork({ method: [] });
    expect(() => between.fork({ method: salient(16) })).toThrow(/was not counted/);
  });
});

describe("a saved fork that kept the rings of its trunk", async () => {
  const model = models.reference;
  const method = methodOf("streaming:sinks=2,window=9");
  const trunk = model.session({ method: methodOf("streaming:sinks=4,window=30"), chunk: 8, capacity: 64 });
  await trunk.prefill(ids.slice(0, 60));
  const fork = trunk.fork({ method });
  const bytes = await fork.save();

  it("is restored with them", async () => {
    const restored = model.restoreSession(bytes, { method, chunk: 8, capacity: 64 });
    expect(restored.layouts).toEqual(trunk.layouts);
    expect(await restored.prefill(ids.slice(60))).toEqual(await fork.prefill(ids.slice(60)));
  });

  it("needs the room that they have", () => {
    expect(() => model.restoreSession(bytes, { method, chunk: 8, capacity: 30 })).toThrow(
      /cache of 41 tokens in layer 0.*give a capacity of at least 41/,
    );
  });
});
