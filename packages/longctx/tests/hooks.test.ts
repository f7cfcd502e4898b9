import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { Capture, LongctxError, stateless, type LayerView, type Method } from "@longctx/core";
import { bestTokens, meanMemory } from "../../core/tests/example-methods.ts";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, tinyIds, tinyModels, type Device } from "./devices.ts";

const models = tinyModels();
const { config } = models.reference;
const ids = tinyIds(60);
const SPECS = [
  "none",
  "rerope:window=7",
  "rerope:window=7+yarn:factor=4",
  "dynamic-ntk:factor=2",
  "yarn:factor=4+streaming:sinks=2,window=9",
];

/** Something for both devices; the reference's first. */
function both<Value>(act: (device: Device) => Promise<Value>): Promise<Value[]> {
  return Promise.all(DEVICES.map(act));
}

describe("capture", () => {
  it.each(SPECS)("of hidden states and attention weights is the same on the cpu: %s", async (spec) => {
    for (const chunk of [1, 7, 60]) {
      const [reference, cpu] = await both(async (device) => {
        const capture = new Capture({ layers: [0, 1], hidden: true, attention: true });
        await models[device].session({ method: methods.parse(spec), chunk, capacity: 96 }).prefill(ids, { capture });
        return capture;
      });
      for (const layer of [0, 1]) {
        expect(difference(cpu.hidden(layer), reference.hidden(layer))).toBeLessThan(1e-5);
        expect(cpu.attention(layer).length).toBe(reference.attention(layer).length);
        reference.attention(layer).forEach(({ first, count, tokens, weights }, i) => {
          expect(cpu.attention(layer)[i]).toMatchObject({ first, count, tokens });
          expect(difference(cpu.attention(layer)[i].weights, weights)).toBeLessThan(1e-5);
        });
      }
    }
  });

  it.each(DEVICES)("of chunks, joined, is that of the whole text: %s", async (device) => {
    const hidden = async (chunk: number) => {
      const capture = new Capture({ layers: [1] });
      await models[device].session({ chunk }).prefill(ids, { capture });
      return capture.hidden(1);
    };
    const whole = await hidden(60);
    for (const chunk of [1, 7, 200]) expect(difference(await hidden(chunk), whole)).toBeLessThan(1e-5);
  });
});

/** Stops at every layer and changes nothing. */
const idle: Method = {
  spec: "idle",
  axes: [],
  hook: {
    layers: () => true,
    create: () => stateless({ plan: (plan) => plan, attended: (_, attended) => attended }),
  },
};

describe.each(DEVICES)("%s", (device) => {
  const model = models[device];

  it.each(SPECS)("hooks that change nothing change nothing: %s", async (spec) => {
    for (const chunk of [1, 7, 60]) {
      const plain = model.session({ method: methods.parse(spec), chunk, capacity: 96 });
      const stopped = model.session({ method: [...methods.parse(spec), idle], chunk, capacity: 96 });
      const expected = await plain.prefill(ids, { logitRows: 60 });
      expect(difference(await stopped.prefill(ids, { logitRows: 60 }), expected)).toBeLessThan(1e-5);
    }
  });

  it("a session may be looked into now and then", async () => {
    const session = model.session({ method: methods.parse("rerope:window=7"), chunk: 5, capacity: 96 });
    const parts: Float32Array[] = [];
    for (const [i, at] of [0, 9, 10, 11, 25, 26, 40].entries()) {
      const capture = i % 2 === 1 ? new Capture({ layers: [i % 4 === 1 ? 0 : 1], attention: true }) : undefined;
      const part = ids.slice(at, [9, 10, 11, 25, 26, 40, 60][i]);
      parts.push(await session.prefill(part, { logitRows: part.length, capture }));
    }
    const straight = model.session({ method: methods.parse("rerope:window=7"), capacity: 96 });
    const logits = Float32Array.from(parts.flatMap((part) => [...part]));
    expect(difference(logits, await straight.prefill(ids, { logitRows: 60 }))).toBeLessThan(1e-5);
  });

  it("views give tokens that are held and refuse others", async () => {
    const seen: string[] = [];
    const attempt = (act: () => unknown) => {
      try {
        act();
        seen.push("given");
      } catch (error) {
        seen.push(error instanceof LongctxError ? "refused" : String(error));
      }
    };
    const peek: Method = {
      spec: "peek",
      axes: [],
      hook: {
        layers: (layer) => layer === 1,
        create: () =>
          stateless({
            plan: (plan, view) => {
              if (view.first < 40) return plan;
              const end = view.first + view.count;
              attempt(() => view.keys({ from: 0, to: 2 })); // sinks
              attempt(() => view.values({ from: end - 12, to: end }));
              attempt(() => view.keys({ from: 0, to: 12 })); // evicted
              attempt(() => view.values({ from: 10, to: 12 }));
              attempt(() => view.keys({ from: end - 1, to: end + 1 })); // not read yet
              attempt(() => view.values({ from: end, to: end + 1 }));
              return plan;
            },
          }),
      },
    };
    const method = [...methods.parse("streaming:sinks=2,window=12"), peek];
    await model.session({ method, chunk: 4 }).prefill(ids.slice(0, 44));
    expect(seen).toEqual(["given", "given", "refused", "refused", "refused", "refused"]);
  });
});

describe("views", () => {
  it.each(SPECS)("hold the same queries, keys and values on the cpu: %s", async (spec) => {
    for (const chunk of [1, 7]) {
      const [reference, cpu] = await both(async (device) => {
        const parts: Float32Array[] = [];
        const watch: Method = {
          spec: "watch",
          axes: [],
          hook: {
            layers: () => true,
            create: () =>
              stateless({
                plan: (plan, view) => {
                  const from = Math.max(0, view.first + view.count - 9);
                  const range = { from, to: view.first + view.count };
                  parts.push(view.queries().slice(), view.keys(range).slice(), view.values(range).slice());
                  return plan;
                },
              }),
          },
        };
        const method = [...methods.parse(spec), watch];
        await models[device].session({ method, chunk, capacity: 96 }).prefill(ids);
        return parts;
      });
      reference.forEach((part, i) => expect(difference(cpu[i], part)).toBeLessThan(1e-5));
    }
  });

  it.each(SPECS)("turn keys back where no copy without rotation is kept: %s", async (spec) => {
    const [reference, cpu] = await both(async (device) => {
      const session = models[device].session({ method: methods.parse(spec), chunk: 7, capacity: 96 });
      await session.prefill(ids.slice(0, 50));
      const capture = new Capture({ layers: [0, 1], attention: true });
      await session.prefill(ids.slice(50), { capture });
      return [0, 1].flatMap((layer) => capture.attention(layer).map((part) => part.weights));
    });
    reference.forEach((part, i) => expect(difference(cpu[i], part)).toBeLessThan(1e-5));
  });
});

describe("retrieval and memory on the cpu are those of the reference", () => {
  const example = fc.record({
    method: fc.constantFrom<() => readonly Method[]>(
      () => [bestTokens(3, config)],
      () => [bestTokens(12, config)],
      () => [...methods.parse("yarn:factor=4"), bestTokens(5, config)],
      () => [...methods.parse("rerope:window=6"), bestTokens(5, config)],
      () => [meanMemory],
      () => [...methods.parse("rerope:window=6+yarn:factor=4"), meanMemory],
      () => [...methods.parse("dynamic-ntk:factor=2"), meanMemory],
      () => [...methods.parse("streaming:sinks=2,window=9"), meanMemory],
    ),
    chunk: fc.constantFrom(1, 4, 7, 100),
    calls: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 20 })), { minLength: 1, maxLength: 5 }),
    seed: fc.nat(1000),
  });

  it("for random texts, chunks and calls", async () => {
    await fc.assert(
      fc.asyncProperty(example, async ({ method: make, chunk, calls, seed }) => {
        const method = make();
        const read = async (device: Device) => {
          const session = models[device].session({ method, chunk, capacity: 128 });
          const logits: Float32Array[] = [];
          for (const [i, count] of calls.entries())
            logits.push(await session.prefill(tinyIds(count, seed + i), { logitRows: count }));
          return logits;
        };
        const reference = await read("reference"); // first, since it makes the choices
        const cpu = await read("cpu");
        reference.forEach((logits, i) => expect(difference(cpu[i], logits)).toBeLessThan(1e-4));
      }),
      { numRuns: 40 },
    );
  });
});

/** Memory is told of every token once, in order, whatever the chunks and the ring. */
it.each(DEVICES)("a memory sees every token once and in order: %s", async (device) => {
  const seen: number[] = [];
  const counting: Method = {
    ...idle,
    hook: {
      layers: (layer) => layer === 1,
      create: () =>
        stateless({
          attended: (view: LayerView, attended: Float32Array) => {
            for (let t = 0; t < view.count; t++) seen.push(view.first + t);
            return attended;
          },
        }),
    },
  };
  const method = [...methods.parse("streaming:sinks=2,window=5"), counting];
  await models[device].session({ method, chunk: 4 }).prefill(ids);
  expect(seen).toEqual(ids.map((_, n) => n));
});
