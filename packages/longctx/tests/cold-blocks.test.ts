import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import {
  Capture,
  LanguageModel,
  LongctxError,
  stateless,
  type Composition,
  type LayerView,
  type Method,
  type ModelConfig,
  type Precision,
  type Session,
} from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { FarRows } from "../../core/src/cpu/far/far-rows.ts";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { parseMethod } from "../src/methods.ts";
import { difference, tinyIds } from "./devices.ts";

const CAPACITY = 8192;
const rope = { type: "default", base: 100, rotarySize: 8 } as const;
const SHAPES = {
  "heads of 8": { headSize: 8, rope },
  "heads of 6, which have no kernels for single tokens": { headSize: 6, rope: { ...rope, rotarySize: 6 } },
  "a layer with a window of its own": { headSize: 8, rope, slidingWindows: [null, 10] },
} satisfies Record<string, Partial<ModelConfig>>;
type Shape = keyof typeof SHAPES;
const BLOCKS = "blocks:size=4,top=6,local=16,sinks=2,exec=8";
const SPECS = [
  BLOCKS,
  "blocks:size=3,top=4,local=9,sinks=1,exec=16,positions=ordered",
  "yarn:factor=4+blocks:size=4,top=3,local=16,sinks=0,exec=8",
  "ntk:factor=4+blocks:size=4,top=3,local=16,sinks=2,exec=8,positions=ordered",
  "random-blocks:size=4,top=5,local=16,sinks=2,exec=8",
  "yarn:factor=4+random-blocks:size=4,top=5,local=16,sinks=2,exec=8,positions=ordered",
  "oracle-block:from=100,to=130,size=4,local=16,sinks=2,exec=8",
  "blocks:size=4,top=6,local=16,sinks=2,exec=8,representative=bounds",
  "blocks:size=4,top=6,local=16,sinks=2,exec=8,representative=salient,repr=2",
];

const models = new Map<string, LanguageModel>();
function modelOf(shape: Shape, precision: Precision | "judge"): LanguageModel {
  const key = `${shape} ${precision}`;
  const config = tinyConfig({ maxPositions: 512, queryHeads: 6, keyHeads: 3, ...SHAPES[shape] });
  const weights = tinyWeights(config);
  const backend = () =>
    precision === "judge" ? createReference(config, weights) : createCpu(config, weights, { threads: 2, precision });
  const model = models.get(key) ?? new LanguageModel({ backend: backend(), tokenizer: null, chatTemplate: null });
  models.set(key, model);
  return model;
}

/** The method as it is where buffers hold all tokens. */
const whole = (method: Composition): Method[] => method.parts.map((part) => ({ ...part, near: undefined }));

/** A session whose old tokens leave the buffers, and one whose buffers hold all tokens. */
function pair(spec: string, shape: Shape = "heads of 8", precision: Precision = "exact") {
  const method = parseMethod(spec);
  const open = (of: Method | readonly Method[]) => modelOf(shape, precision).session({ method: of, capacity: CAPACITY }); // prettier-ignore
  return { method, cold: open(method), full: open(whole(method)) };
}

/** Reads tokens in turns: 93 at once, which ends within a group, then 7 one by one; the logits of all. */
async function read(session: Session, ids: readonly number[]): Promise<Float32Array> {
  const logits: number[] = [];
  for (let at = 0; at < ids.length; at += 100) {
    const part = ids.slice(at, at + 93);
    logits.push(...(await session.prefill(part, { logitRows: part.length })));
    for (const id of ids.slice(at + 93, at + 100)) logits.push(...(await session.prefill([id])));
  }
  return Float32Array.from(logits);
}

/** How far two sessions are from each other on what comes next. */
async function apart(a: Session, b: Session, ids = tinyIds(40, 17)): Promise<number> {
  return difference(await read(a, ids), await read(b, ids));
}

const text = tinyIds(2000, 3);
afterEach(() => vi.restoreAllMocks());

describe.each(Object.keys(SHAPES) as Shape[])("old tokens outside of the buffers: %s", (shape) => {
  it.each(SPECS)("%s", async (spec) => {
    const { cold, full } = pair(spec, shape);
    expect(difference(await read(cold, text.slice(0, 300)), await read(full, text.slice(0, 300)))).toBeLessThan(1e-5);
    expect(full.bytesByPart.far).toBe(0);
    expect(cold.bytesByPart.far).toBeGreaterThan(0);
    expect(cold.bytesByPart.ring).toBeLessThan(full.bytesByPart.ring / 8);
    expect(cold.blockReads!.fetched).toBeGreaterThan(0);
    for (const session of [cold, full]) session.dispose();
  });
});

it("is what the reference computes", async () => {
  const method = parseMethod(BLOCKS);
  const open = (which: "judge" | "exact") => modelOf("heads of 8", which).session({ method, capacity: CAPACITY });
  const [judge, cold] = [open("judge"), open("exact")];
  expect(difference(await read(cold, text.slice(0, 200)), await read(judge, text.slice(0, 200)))).toBeLessThan(1e-4);
});

it("thousands of blocks go and come back, while the buffers stay as they are", async () => {
  const { cold, full } = pair("blocks:size=2,top=9,local=16,sinks=2,exec=32");
  const sizes: { ring: number; far: number; length: number }[] = [];
  for (let at = 0; at < text.length; at += 500) {
    const part = text.slice(at, at + 500);
    expect(difference(await read(cold, part), await read(full, part))).toBeLessThan(1e-5);
    sizes.push({ ...cold.bytesByPart, length: cold.length });
  }
  expect(new Set(sizes.map(({ ring }) => ring)).size).toBe(1);
  const perToken = 2 * 2 * 3 * 8 * 4; // layers, keys and values, key heads, D, float32
  for (const { far, length } of sizes) {
    expect(far).toBeGreaterThanOrEqual(length * perToken);
    expect(far).toBeLessThan(length * perToken + 2 * 2 * 2 ** 18); // a block of each store may be empty yet
  }
  const { read: blocks, fetched } = cold.blockReads!;
  expect(fetched).toBeGreaterThan(1000);
  expect(fetched).toBeLessThan(blocks);
});

it("moves blocks between both kinds of memory, where buffers are large", async () => {
  const { cold, full } = pair("blocks:size=64,top=3,local=400,sinks=4,exec=128");
  expect(difference(await read(cold, text.slice(0, 1000)), await read(full, text.slice(0, 1000)))).toBeLessThan(1e-5);
  expect(cold.blockReads!.fetched).toBeGreaterThan(0);
});

it.each([
  "random-blocks:size=4,top=5,local=16,sinks=2,exec=8",
  "random-blocks:size=64,top=3,local=400,sinks=4,exec=128",
])("fast keeps old tokens in 16 bits: %s", async (spec) => {
  const [fast, exact] = [pair(spec, "heads of 8", "fast"), pair(spec)];
  const ids = text.slice(0, 900);
  const [cold, full, precise] = [await read(fast.cold, ids), await read(fast.full, ids), await read(exact.cold, ids)];
  const error = difference(full, precise); // of the 8 bits in which single tokens read
  expect(difference(cold, full)).toBeLessThan(error / 2);
  expect((await fast.cold.save()).length).toBeLessThan(0.6 * (await exact.cold.save()).length);
});

describe.each([BLOCKS, SPECS[1], SPECS[5]])("%s goes on", (spec) => {
  it("after forks of forks, which share the old tokens and go their own ways", async () => {
    const { cold, full } = pair(spec);
    for (const one of [cold, full]) await read(one, text.slice(0, 200));
    const [fork, fullFork] = [cold.fork(), full.fork()];
    for (const one of [fork, fullFork]) await read(one, text.slice(500, 600));
    const [grandchild, fullGrandchild] = [fork.fork(), fullFork.fork()];
    expect(await apart(cold, full)).toBeLessThan(1e-5);
    expect(await apart(grandchild, fullGrandchild, text.slice(700, 800))).toBeLessThan(1e-5);
    cold.dispose();
    expect(await apart(fork, fullFork)).toBeLessThan(1e-5);
  });

  it("after truncation to anywhere, also of a fork", async () => {
    const { cold, full } = pair(spec);
    for (const one of [cold, full]) await read(one, text.slice(0, 200));
    for (const length of [199, 181, 133, 64, 30, 1, 0]) {
      const [a, b] = [cold.fork(), full.fork()];
      for (const one of [a, b]) one.truncate(length);
      expect(await apart(a, b, text.slice(900, 930))).toBeLessThan(1e-5);
    }
    for (const length of [150, 40, 20]) {
      for (const one of [cold, full]) one.truncate(length);
      expect(await apart(cold, full, text.slice(900, 1010))).toBeLessThan(1e-5);
    }
  });

  it("after save and restore, with other buffers too", async () => {
    const { method, cold, full } = pair(spec);
    for (const one of [cold, full]) await read(one, text.slice(0, 100));
    const bytes = await cold.save();
    for (const capacity of [4000, 141]) {
      // As a file is read: a Buffer, which may begin at any byte of its memory.
      const file = Buffer.concat([Buffer.from([0]), bytes]).subarray(1);
      const restored = modelOf("heads of 8", "exact").restoreSession(file, { method, capacity });
      expect(restored.bytesByPart.far > 0).toBe(capacity > 141);
      expect(await apart(restored, full.fork())).toBeLessThan(1e-5);
    }
    expect(await apart(cold, full)).toBeLessThan(1e-5);
  });
});

describe("a fork under other methods", () => {
  // The trunk's buffers hold near tokens alone; what comes next sees as much of the text as it would beside full buffers.
  it.each([
    ["as many near tokens", "random-blocks:size=4,top=6,local=16,sinks=2,exec=8", true],
    ["other near tokens, in other blocks and groups", "blocks:size=5,top=4,local=30,sinks=7,exec=24", true],
    ["all tokens", "none", false],
    ["all tokens for each query and head", "knn:k=5,window=20", false],
    ["some last tokens", "streaming:sinks=4,window=40", false],
  ])("%s", async (_, spec, keeps) => {
    const { cold, full } = pair(BLOCKS);
    for (const one of [cold, full]) await read(one, text.slice(0, 200));
    const method = parseMethod(spec);
    const forks = [cold.fork({ method }), full.fork({ method: whole(method) })];
    expect(forks[0].bytesByPart.far > 0).toBe(keeps);
    expect(await apart(forks[0], forks[1], text.slice(200, 330))).toBeLessThan(1e-5);
    const restored = modelOf("heads of 8", "exact").restoreSession(await forks[0].save(), { method, capacity: CAPACITY }); // prettier-ignore
    expect(await apart(restored, forks[1])).toBeLessThan(1e-5);
    expect(await apart(cold, full)).toBeLessThan(1e-5);
  });
});

it("a pass that stops at a layer is taken back", async () => {
  const { cold, full } = pair(BLOCKS);
  for (const one of [cold, full]) await read(one, text.slice(0, 150));
  const capture = new Capture({ layers: [0], attention: true });
  await cold.prefill(text.slice(300, 340), { stopAfter: 0, capture });
  cold.truncate(150);
  expect(await apart(cold, full, text.slice(150, 250))).toBeLessThan(1e-5);
});

it("a saved session of fast is restored in either precision", async () => {
  const spec = "random-blocks:size=4,top=5,local=16,sinks=2,exec=8";
  const method = parseMethod(spec);
  const [fast, exact] = [pair(spec, "heads of 8", "fast"), pair(spec)];
  for (const one of [fast.cold, exact.cold]) await read(one, text.slice(0, 300));
  const ids = text.slice(300, 340);
  const expected = await exact.cold.fork().prefill(ids, { logitRows: 40 });
  for (const [from, precision] of [
    [fast.cold, "exact"],
    [fast.cold, "fast"],
    [exact.cold, "fast"],
  ] as const) {
    const restored = modelOf("heads of 8", precision).restoreSession(await from.save(), { method, capacity: CAPACITY });
    expect(difference(await restored.prefill(ids, { logitRows: 40 }), expected)).toBeLessThan(0.1);
  }
});

describe("a saved session", () => {
  it("whose buffers held all tokens is refused where they would not", async () => {
    const { method, cold } = pair(BLOCKS);
    const small = modelOf("heads of 8", "exact").session({ method, capacity: 200 });
    await small.prefill(text.slice(0, 150));
    expect(small.bytesByPart.far).toBe(0);
    const bytes = await small.save();
    expect(() => modelOf("heads of 8", "exact").restoreSession(bytes, { method, capacity: CAPACITY })).toThrow(
      /restore it with the capacity/,
    );
    cold.dispose();
  });

  it("that is cut off, or lies about its store, is refused", () => {
    const { method } = pair(BLOCKS);
    const { backend } = modelOf("heads of 8", "exact");
    const layouts = modelOf("heads of 8", "exact").session({ method, capacity: CAPACITY }).layouts;
    const header = { length: 200, longest: 200, slots: [[], []], copies: [[], []], far: ["exact", "exact"], memories: [null, null], masses: [0, 0], keyIndexes: [null, null] }; // prettier-ignore
    const bytes = (changes: object, floats: number) =>
      Buffer.concat([Buffer.from(`${JSON.stringify({ ...header, ...changes })}\n`), Buffer.alloc(4 * floats)]);
    const needed = 2 * 2 * 200 * 24;
    backend.restoreState(layouts, bytes({}, needed)).dispose();
    for (const wrong of [
      bytes({}, needed - 1),
      bytes({}, needed + 1),
      bytes({ far: ["exact", "fast"] }, needed),
      bytes({ far: ["exact"] }, needed),
      bytes({ far: ["exact", "double"] }, needed),
      bytes({ length: 4000, longest: 4000 }, needed),
      bytes({ far: undefined }, needed),
    ])
      expect(() => backend.restoreState(layouts, wrong)).toThrow(
        expect.objectContaining({ code: "file" }) as LongctxError,
      );
  });
});

describe("hooks and captures", () => {
  it("see the keys and values of old tokens", async () => {
    const { method, cold, full } = pair(BLOCKS);
    const seen: number[][] = [[], []];
    const watch = (to: number[]): Method => ({
      spec: "watch",
      axes: [],
      hook: {
        layers: (layer) => layer === 1,
        create: () =>
          stateless({
            plan: (plan, view: LayerView) => {
              const all = { from: 0, to: view.first + view.count };
              to.push(...view.keys(all), ...view.values(all));
              return plan;
            },
          }),
      },
    });
    const open = (of: Method[], to: number[]) =>
      modelOf("heads of 8", "exact").session({ method: [...of, watch(to)], capacity: CAPACITY });
    await read(open([...method.parts], seen[0]), text.slice(0, 200));
    await read(open(whole(method), seen[1]), text.slice(0, 200));
    expect(difference(Float32Array.from(seen[0]), Float32Array.from(seen[1]))).toBeLessThan(1e-5);
    const captures = [cold, full].map(() => new Capture({ layers: [1], attention: true }));
    await cold.prefill(text.slice(0, 200), { capture: captures[0] });
    await full.prefill(text.slice(0, 200), { capture: captures[1] });
    const [a, b] = captures.map((one) => one.attention(1).at(-1)!);
    expect(difference(a.weights, b.weights)).toBeLessThan(1e-5);
  });

  it("may show any old tokens, in any positions", async () => {
    const method = parseMethod(BLOCKS);
    const odd: Method = {
      spec: "odd",
      axes: [],
      hook: {
        layers: () => true,
        create: () =>
          stateless({
            plan: (plan, { first }) => ({
              ...plan,
              // Every third of all earlier tokens, at their own positions and as ranges that overlap nothing else.
              segments: [
                {
                  ...plan.segments[0],
                  band: { from: 16, to: Infinity },
                  tokens: Int32Array.from({ length: Math.floor(first / 3) }, (_, i) => 3 * i),
                },
                { ...plan.segments[0], tokens: { from: 31, to: 32 }, band: { from: 40, to: 90 } },
                { ...plan.segments[0], band: { from: 0, to: 16 } },
              ],
            }),
          }),
      },
    };
    const open = (of: readonly Method[]) =>
      modelOf("heads of 8", "exact").session({ method: [...of, odd], capacity: CAPACITY });
    const [a, b] = [await read(open(method.parts), text.slice(0, 300)), await read(open(whole(method)), text.slice(0, 300))]; // prettier-ignore
    expect(difference(a, b)).toBeLessThan(1e-5);
  });
});

describe("a store in a file", () => {
  const folder = mkdtempSync(join(tmpdir(), "longctx-test-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it("gives what one in memory gives, and leaves nothing behind", async () => {
    const { method, cold } = pair(BLOCKS);
    const model = modelOf("heads of 8", "exact");
    const filed = model.session({ method, capacity: CAPACITY, farFolder: folder });
    for (const one of [cold, filed]) await read(one, text.slice(0, 200));
    const fork = filed.fork();
    const restored = model.restoreSession(await filed.save(), { method, capacity: CAPACITY, farFolder: folder });
    for (const one of [filed, fork, restored]) {
      expect(await apart(one, cold.fork())).toBeLessThan(one === restored ? 1e-5 : 1e-30);
      one.dispose();
    }
    expect(readdirSync(folder)).toEqual([]);
  });

  it("is refused in a folder that is a file", () => {
    const { method } = pair(BLOCKS);
    const file = join(folder, "file");
    writeFileSync(file, "");
    const open = () => modelOf("heads of 8", "exact").session({ method, capacity: CAPACITY, farFolder: file });
    expect(open).toThrow(expect.objectContaining({ code: "capacity" }) as LongctxError);
    rmSync(file);
  });
});

describe("a store that runs out of memory", () => {
  it.each([0, 1, 3])("leaves the session at the end of the chunk before: at append %i of a chunk", async (failing) => {
    const { method, cold, full } = pair(BLOCKS);
    for (const one of [cold, full]) await read(one, text.slice(0, 200));
    const append = FarRows.prototype.append;
    let left = 4 * 2 + failing; // two chunks of two layers with two stores each
    vi.spyOn(FarRows.prototype, "append").mockImplementation(function (this: FarRows, rows) {
      if (left-- === 0) throw new LongctxError("capacity", "There is no memory for another block.");
      append.call(this, rows);
    });
    await expect(cold.prefill(text.slice(200, 240))).rejects.toThrow(/no memory/);
    expect(cold.length).toBe(216);
    vi.restoreAllMocks();
    await full.prefill(text.slice(200, 216));
    const restored = modelOf("heads of 8", "exact").restoreSession(await cold.save(), { method, capacity: CAPACITY });
    for (const one of [cold, restored]) expect(await apart(one, full.fork())).toBeLessThan(1e-5);
  });
});
