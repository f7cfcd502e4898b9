import { describe, expect, it } from "vitest";
import {
  among,
  LanguageModel,
  makeTable,
  within,
  type SequenceState,
  type Method,
  type ModelConfig,
  type Precision,
  type Session,
} from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import type { CpuState } from "../../core/src/cpu/state/cpu-state.ts";
import { bestTokens } from "../../core/tests/example-methods.ts";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { methods } from "../src/methods.ts";
import { difference, tinyIds } from "./devices.ts";

/** A table that is another one for every length, its amplitude too; `steps` lengths have the same. */
function following(steps = 1): Method {
  return {
    spec: `following:steps=${steps}`,
    axes: ["frequencies", "temperature"],
    lengthDependent: true,
    frequencies: ({ rope, length }) => {
      const grown = Math.floor(length / steps) * steps;
      const table = defaultFrequencies(rope.base, rope.rotarySize);
      return makeTable(
        table.map((theta) => theta / (1 + grown / 200)),
        1 + grown / 500,
      );
    },
  };
}

/** Five sinks and 70 recent tokens in a ring that does not end where blocks of keys do. */
const ring: Method = {
  spec: "ring",
  axes: ["visibility"],
  layout: ({ chunk }) => ({ capacity: 75 + chunk, pinned: 5 }),
  segments: (segments) =>
    segments.flatMap((segment) =>
      [
        within(segment, { from: 0, to: 70 }),
        within(among(segment, { from: 0, to: 5 })!, { from: 70, to: Infinity }),
      ].filter((part) => part !== null),
    ),
};

type Shape = Pick<ModelConfig, "headSize" | "queryHeads" | "keyHeads"> & { readonly rotarySize: number };
const SHAPES: readonly Shape[] = [
  { headSize: 8, rotarySize: 8, queryHeads: 4, keyHeads: 2 },
  { headSize: 64, rotarySize: 64, queryHeads: 9, keyHeads: 3 },
  { headSize: 20, rotarySize: 8, queryHeads: 6, keyHeads: 2 }, // three for each, and 12 channels without rotation
  { headSize: 12, rotarySize: 12, queryHeads: 6, keyHeads: 2 }, // 6 pairs: a vector and half of one
  { headSize: 20, rotarySize: 14, queryHeads: 5, keyHeads: 1 }, // 7 pairs and 6 channels without rotation
  { headSize: 4, rotarySize: 2, queryHeads: 3, keyHeads: 3 },
  { headSize: 40, rotarySize: 22, queryHeads: 4, keyHeads: 4 },
];
/** How far logits of a few units may be from the reference. */
const TOLERANCE: Readonly<Record<Precision, number>> = { exact: 2e-5, fast: 0.06 };
const text = tinyIds(230, 7);

/** A session of each backend, and the cpu's cache. */
function sides(
  shape: Shape,
  method: Method[],
  options: { precision?: Precision; threads?: number; windows?: (number | null)[] } = {},
) {
  const { precision = "exact", threads = 1, windows = [null, null] } = options;
  const { rotarySize, ...sizes } = shape;
  const rope = { type: "default", base: 100, rotarySize } as const;
  const config = tinyConfig({ ...sizes, rope, maxPositions: 512, layerCount: windows.length, slidingWindows: windows });
  const weights = tinyWeights(config);
  const states: SequenceState[] = [];
  const cpu = createCpu(config, weights, { precision, threads });
  const create = cpu.createState.bind(cpu);
  cpu.createState = (layout) => {
    states.push(create(layout));
    return states[states.length - 1];
  };
  const models = [createReference(config, weights), cpu].map(
    (backend) => new LanguageModel({ backend, tokenizer: null, chatTemplate: null }),
  );
  const [judge, session] = models.map((model) => model.session({ method, chunk: 16, capacity: 256 }));
  return { judge, session, model: models[1], copies: () => [...(states[0] as CpuState).layers[1].copies.keys()] };
}

async function stepped(session: Session, ids: readonly number[]): Promise<Float32Array> {
  const logits: number[] = [];
  for (const id of ids) logits.push(...(await session.prefill([id])));
  return Float32Array.from(logits);
}

async function expectSame(judge: Session, session: Session, ids: readonly number[], tolerance: number): Promise<void> {
  expect(difference(await stepped(session, ids), await stepped(judge, ids))).toBeLessThan(tolerance);
}

describe.each(["exact", "fast"] as const)("a single token turns raw keys as it reads them: %s", (precision) => {
  const tolerance = TOLERANCE[precision];

  it.each(SHAPES)("heads of $headSize, $rotarySize of them rotary, $queryHeads for $keyHeads", async (shape) => {
    const { judge, session, copies } = sides(shape, [following()], { precision, threads: 2 });
    for (const one of [judge, session]) await one.prefill(text.slice(0, 130));
    expect(copies()).toHaveLength(2);
    for (const from of [130, 137, 170, 199]) {
      await expectSame(judge, session, text.slice(from, from + 3), tolerance);
      expect(copies()).toEqual(["raw"]);
      const next = { 130: 137, 137: 170, 170: 199, 199: 204 }[from]!;
      for (const one of [judge, session]) await one.prefill(text.slice(from + 3, next)); // a chunk between
      expect(copies()).toHaveLength(2);
    }
  });

  const COMPOSED: readonly (readonly [string, () => Method[]])[] = [
    ["a ring with sinks", () => [following(), ring]],
    ["ReRoPE: near and far", () => [following(), ...methods.parse("rerope:window=40")]],
    ["positions in fractions", () => [following(), ...methods.parse("leaky-rerope:window=40,factor=3.5")]],
    ["positions in groups", () => [following(), ...methods.parse("self-extend:window=40,group=3")]],
    ["positions that begin anew", () => [following(), ...methods.parse("dual-chunk:chunk=37,cap=60")]],
    ["dynamic NTK", () => methods.parse("dynamic-ntk:factor=2")],
  ];
  const both = COMPOSED.flatMap(([name, method]) => [SHAPES[2], SHAPES[3]].map((shape) => ({ name, method, shape })));
  it.each(both)("$name, heads of $shape.headSize", async ({ method, shape }) => {
    const { judge, session, copies } = sides(shape, method(), { precision });
    for (const one of [judge, session]) await one.prefill(text.slice(0, 110));
    await expectSame(judge, session, text.slice(110, 150), tolerance);
    expect(copies()).toEqual(["raw"]);
  });
});

it("a single token turns the keys of a list", async () => {
  const shape = SHAPES[0];
  const { judge, session, copies } = sides(shape, []);
  const lists = [following(), bestTokens(9, judge.model.config)];
  const both = sides(shape, lists);
  for (const one of [both.judge, both.session]) await one.prefill(text.slice(0, 90));
  await expectSame(both.judge, both.session, text.slice(90, 120), TOLERANCE.exact);
  expect(both.copies()).toEqual(["raw"]);
  await session.prefill(text.slice(0, 4));
  expect(copies()).toHaveLength(1); // none keeps its one copy and no raw keys
});

it("layers that see different things have angles of their own", async () => {
  const windows = [null, 50, 20, null, 50, 33, 90];
  const { judge, session, copies } = sides(SHAPES[3], [following()], { windows });
  for (const one of [judge, session]) await one.prefill(text.slice(0, 140));
  await expectSame(judge, session, text.slice(140, 146), TOLERANCE.exact);
  expect(copies()).toEqual(["raw"]);
});

it("a table that stays gets its copy with the second token that asks for it", async () => {
  const { judge, session, copies } = sides(SHAPES[1], [following(10)]);
  for (const one of [judge, session]) await one.prefill(text.slice(0, 105), { length: 105 });
  const seen: number[] = [];
  for (const id of text.slice(105, 125)) {
    await expectSame(judge, session, [id], TOLERANCE.exact);
    seen.push(copies().length);
  }
  // Lengths 106 to 109 have the prompt's table; 110 to 119, and 120 to 125, another one.
  expect(seen).toEqual([2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2]);
});

it("forks, truncations and saved sessions go on from raw keys alone", async () => {
  const method = [following()];
  const { judge, session, model, copies } = sides(SHAPES[3], method);
  for (const one of [judge, session]) await one.prefill(text.slice(0, 100));
  await expectSame(judge, session, text.slice(100, 105), TOLERANCE.exact);
  expect(copies()).toEqual(["raw"]);
  const forks = [judge.fork(), session.fork()] as const;
  const restored = model.restoreSession(await session.save(), { method, chunk: 16, capacity: 256 });
  const again = judge.fork();
  for (const one of [judge, session]) one.truncate(60);
  await expectSame(judge, session, text.slice(150, 155), TOLERANCE.exact);
  await expectSame(...forks, text.slice(160, 165), TOLERANCE.exact);
  for (const one of [again, restored]) await one.prefill(text.slice(170, 180));
  await expectSame(again, restored, text.slice(180, 185), TOLERANCE.exact);
});
