import { afterAll, describe, expect, it, vi } from "vitest";
import { constantPosition, TEXT_POSITION, type AttentionPlan, type Choice, type Segment } from "@longctx/core";
import { attentionMassKernel } from "../../../src/webgpu/choice/attention-mass.ts";
import { choiceScoresKernel } from "../../../src/webgpu/choice/choice-scores.ts";
import { salientMeansKernel } from "../../../src/webgpu/choice/salient-means.ts";
import { sparseKernel } from "../../../src/webgpu/sparse/attention-sparse.ts";
import { causal, shapeOf, tableOf } from "../attention/attention-plans.ts";
import { LEAST } from "../attention/attention-scene.ts";
import { gpuOrNull } from "../device.ts";
import { workgroupMemory } from "../workgroup-memory.ts";
import { playChoices, type ChoiceScene } from "./choice-scene.ts";

const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());
vi.setConfig({ testTimeout: 300_000 });

const heads = { queryHeads: 6, keyHeads: 3, headSize: 8, pairs: 3 };
const table = tableOf(3, 1.2);
/** Raw keys under it are exact in 16 bits. */
const plainTable = tableOf(3);
const LOCAL = 9;
const SINKS = 2;

/** Tokens near a query, and those that a choice takes beyond. */
function choosing(
  make: (first: number, count: number) => Partial<Choice> & Pick<Choice, "candidates" | "count">,
  changes: Partial<Segment> = {},
) {
  // prettier-ignore
  return (first: number, count: number): AttentionPlan => {
    const choice: Choice = {
      id: "some",
      size: 1,
      from: SINKS,
      asking: { from: first, to: first + count },
      table,
      queryPosition: constantPosition(LOCAL - 1),
      keyPosition: constantPosition(0),
      ...make(first, count),
    };
    const far = { queryPosition: choice.queryPosition, keyPosition: choice.keyPosition, ...changes };
    const band = { from: LOCAL, to: Infinity };
    const near = causal(choice.table, { band: { from: 0, to: LOCAL } });
    const chosen = { ...near, ...far, band, tokens: { choice, ranks: { from: 0, to: choice.count } } };
    return { segments: [near, chosen] };
  };
}

const eachOf = (size: number, count: number, changes: Partial<Choice> = {}) =>
  choosing((first, rows) => {
    const candidates = Math.max(0, Math.floor((first + rows - LOCAL - SINKS) / size));
    return { size, candidates, count: Math.min(count, candidates), each: { beyond: LOCAL }, ...changes };
  });
const groupOf = (size: number, count: number, changes: Partial<Choice> = {}) =>
  choosing((first) => {
    const candidates = Math.max(0, Math.floor((first - LOCAL + 1 - SINKS) / size));
    return { size, candidates, count: Math.min(count, candidates), ...changes };
  });

async function expectAsDefined(scene: Partial<ChoiceScene> & Pick<ChoiceScene, "plan">, tolerance = 3e-5) {
  const outcome = await playChoices(gpu, { shape: shapeOf(heads), chunks: [25, 1, 30, 1], ...scene });
  expect(outcome.chosen).toEqual(outcome.expected);
  expect(outcome.attended).toBeLessThan(tolerance);
  expect(outcome.mass).toBeLessThan(tolerance);
  return outcome;
}

const HALF = 2e-3; // keys that are rotated, and values, in 16 bits
const salient = { kind: "salient", tokens: 2, band: LOCAL } as const;

describe.skipIf(!gpu)("choices by row and head, and attention to them", () => {
  it.each(["heads", "group", "none"] as const)("of single tokens, share=%s", async (share) => {
    await expectAsDefined({ plan: eachOf(1, 5, { share }) });
    await expectAsDefined({ plan: eachOf(1, 5, { share }), buffers: 3, path: "split" });
    const halves = shapeOf({ ...heads, storage: "f16" });
    await expectAsDefined({ plan: eachOf(1, 5, { share, table: plainTable }), shape: halves }, HALF);
  });

  it.each([
    ["mean", "none", 1],
    ["bounds", "none", 3],
    ["bounds", "group", 2],
    ["salient", "heads", 1],
    ["salient", "none", 3],
  ] as const)("of blocks by their %s, share=%s, %i buffers", async (kind, share, buffers) => {
    const representative = kind === "salient" ? salient : ({ kind } as const);
    // Salient keys of queries that choose for themselves are complete in chunks of one token.
    const chunks = kind === "salient" ? Array.from({ length: 45 }, () => 1) : undefined;
    await expectAsDefined({ plan: eachOf(4, 3, { share, representative }), buffers, ...(chunks && { chunks }) });
    await expectAsDefined({ plan: groupOf(4, 3, { share, representative }), buffers, chunks: [16, 8, 8, 8, 1, 1] });
  });

  it("as hardware tiles them, cut into ranges of keys", async () => {
    const hardware = { ...LEAST, subgroups: gpu.capabilities.subgroups, software: false };
    const chunks = [300, 70, 1];
    const { dispatches } = await expectAsDefined({
      plan: eachOf(1, 7, { share: "none" }),
      capabilities: hardware,
      chunks,
    });
    expect(dispatches.some(({ kernel }) => kernel.name.startsWith("attention-tiled"))).toBe(true);
    expect(dispatches.some(({ kernel }) => kernel.name.endsWith("parts"))).toBe(true);
    await expectAsDefined({
      plan: groupOf(8, 4, { representative: salient }),
      capabilities: hardware,
      chunks: [40, 20, 1],
    });
  });

  it("of more keys than a workgroup has invocations, in heads of a usual size", async () => {
    const shape = shapeOf({ queryHeads: 9, keyHeads: 3, headSize: 64, pairs: 32 });
    const table32 = tableOf(32);
    const usual = { table: table32, share: "none" } as const;
    await expectAsDefined({ shape, plan: eachOf(1, 70, usual), chunks: [120, 20, 1] });
    const representative = { kind: "salient", tokens: 3, band: LOCAL } as const;
    await expectAsDefined({ shape, plan: groupOf(16, 5, { ...usual, representative }), chunks: [120, 20, 1] });
  });

  it("by some heads for all, in several buffers", async () => {
    for (const askers of [[1, 2, 5], [0], []]) {
      await expectAsDefined({ plan: eachOf(1, 5, { askers }), buffers: 3 });
      await expectAsDefined({
        plan: groupOf(4, 3, { askers, representative: { kind: "bounds" } }),
        chunks: [30, 8, 1],
      });
    }
    await expectAsDefined({ plan: groupOf(4, 3, { askers: [3, 4] }), chunks: [30, 8, 1] });
  });

  it("with scores of more rows than a buffer holds at once", async () => {
    const { dispatches } = await expectAsDefined({ plan: eachOf(1, 3, { share: "none" }), scoreBytes: 9000 });
    const scores = dispatches.filter(({ kernel }) => kernel.name.startsWith("choice-scores"));
    // Of 4 chunks, the third takes 24 bytes a row and a candidate, of which it has 45.
    expect(scores).toHaveLength(1 + 1 + Math.ceil(30 / Math.floor(9000 / (24 * 45))) + 1);
  });

  it("by the logits of rotated keys, capped, in a ring that has gone round", async () => {
    const positions = { queryPosition: TEXT_POSITION, keyPosition: TEXT_POSITION };
    const plan = choosing(
      (first, count) => {
        const [from, end] = [Math.max(0, first + count - 40), first + count - LOCAL];
        return { ...positions, from, candidates: Math.max(0, end - from), count: Math.min(4, Math.max(0, end - from)), each: { beyond: LOCAL }, share: "none" }; // prettier-ignore
      },
      { ...positions, band: { from: LOCAL, to: 25 } }, // hides some of what was chosen
    );
    await expectAsDefined({ plan, shape: shapeOf({ ...heads, softCap: 2 }), layout: { capacity: 48, pinned: 3 }, chunks: [20, 8, 8, 8, 1, 8, 8] }); // prettier-ignore
  });

  it.each([
    ["pairs in fours", { headSize: 16, pairs: 4 }],
    ["other pairs", { headSize: 8, pairs: 3 }],
  ])("at consecutive positions, which share one rotation: %s", async (_, shape) => {
    const own = tableOf(shape.pairs, 1.2);
    const plan = (first: number, count: number): AttentionPlan => {
      const near = causal(own, { band: { from: 0, to: LOCAL } });
      const candidates = Math.max(0, Math.floor((first + count - LOCAL - SINKS) / 2));
      const choice: Choice = { id: "blocks", size: 2, from: SINKS, candidates, count: Math.min(4, candidates), asking: { from: first, to: first + count }, each: { beyond: LOCAL }, share: "none", table: own, queryPosition: constantPosition(8), keyPosition: constantPosition(0) }; // prettier-ignore
      const chosen = Array.from({ length: choice.count }, (_rank, rank) => ({
        ...near,
        band: { from: LOCAL, to: Infinity },
        queryPosition: { id: `m−${3 * rank}`, at: (m: number) => m - 3 * rank },
        keyPosition: { id: "mod 2", at: (n: number) => (n - SINKS) % 2 },
        tokens: { choice, ranks: { from: rank, to: rank + 1 } },
      }));
      return { segments: [near, ...chosen] };
    };
    const scene = { plan, shape: shapeOf({ ...heads, ...shape }) };
    const { dispatches } = await expectAsDefined(scene);
    await expectAsDefined({ ...scene, given: true });
    // Near ones, the ranks together, those that choose: however many ranks there are.
    const rotations = dispatches.filter(({ kernel }) => kernel.name.startsWith("rotate")).map(({ uniforms }) => uniforms[1]); // prettier-ignore
    expect(Math.max(...rotations)).toBeLessThanOrEqual(4);
  });

  it("as a hook gives them", async () => {
    const plan = eachOf(1, 5, { share: "group" });
    await expectAsDefined({ plan, given: true });
    await expectAsDefined({ plan: groupOf(4, 3, { share: "none" }), given: true, path: "split", chunks: [25, 3, 2] });
  });

  it.each([
    ["cosines", [[2, -1, 0, 3, 1.5, 4]]],
    ["products", undefined],
  ] as const)("in a softmax of their own, mixed by a gate: %s", async (_, given) => {
    const scales = given?.map((values) => Float32Array.from(values));
    const gates = [Float32Array.of(-1, 0, 2, 0.5, -3, 1)];
    const plan = (first: number, count: number): AttentionPlan => {
      const { segments } = eachOf(1, 6, { share: "none", scales, table: plainTable })(first, count);
      const { choice } = segments[1].tokens as { choice: Choice };
      const found = choice.count > 0 ? [segments[1]] : [];
      return {
        segments: [segments[0]],
        temperature: { id: "warm", at: (m) => 1 + (m % 3) / 4 },
        gated: { segments: found, gates, scales },
      };
    };
    await expectAsDefined({ plan, chunks: [6, 25, 1, 20], buffers: 3 });
    await expectAsDefined({ plan, chunks: [25, 1, 20], given: true });
    await expectAsDefined({ plan, shape: shapeOf({ ...heads, storage: "f16" }) }, HALF);
  });
});

describe("kernels of choices", () => {
  it.each([6, 64, 128, 256, 1024])("fit the memory of a workgroup: heads of %i channels", (headSize) => {
    const shape = shapeOf({ ...heads, headSize, pairs: headSize / 2 });
    const kernels = [
      attentionMassKernel(shape),
      salientMeansKernel(shape),
      sparseKernel(shape, "product"),
      sparseKernel(shape, "cosine"),
      choiceScoresKernel(shape, "cosines", 1),
      choiceScoresKernel(shape, "bounds", Math.max(1, Math.min(8, 512 / Math.ceil(headSize / 4)))),
    ];
    for (const { code, bindings } of kernels) {
      expect(workgroupMemory(code)).toBeLessThanOrEqual(LEAST.maxWorkgroupMemory);
      expect(bindings.length).toBeLessThanOrEqual(8); // what every device binds
    }
  });
});
