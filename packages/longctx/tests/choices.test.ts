import { describe, expect, it } from "vitest";
import {
  Capture,
  ChosenRows,
  constantPosition,
  LanguageModel,
  stateless,
  TEXT_POSITION,
  within,
  type AttentionPlan,
  type Choice,
  type Method,
  type ModelConfig,
  type Precision,
  type Segment,
} from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { methods } from "../src/methods.ts";
import { difference, distinctIds } from "./devices.ts";

/** Three key heads of six query heads; texts without equal tokens, whose keys would be equal too and make ties. */
const SHAPE = { maxPositions: 512, queryHeads: 6, keyHeads: 3, vocabSize: 256 } as const;
const text = distinctIds(160, 3);

function modelsOf(shape: Partial<ModelConfig>) {
  const config = tinyConfig({ ...SHAPE, headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 }, ...shape });
  const weights = tinyWeights(config);
  const cpu = (precision: Precision) => createCpu(config, weights, { threads: 2, precision });
  const of = (backend: ReturnType<typeof cpu>) => new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
  return { reference: of(createReference(config, weights)), exact: of(cpu("exact")), fast: of(cpu("fast")), config };
}
const models = modelsOf({});
const BLOCKS = "size=8,top=2,local=16,sinks=2";

/** Returns a method whose hook calls `look` with the plan of each chunk and layer, choices made, and attends by the plan that `look` returns. */
const looking = (look: (plan: AttentionPlan, layer: number, first: number) => AttentionPlan): Method => ({
  spec: "look",
  axes: [],
  hook: {
    layers: () => true,
    create: () => stateless({ plan: (plan, { layer, first }) => look(plan, layer, first) }),
  },
});

describe("what was chosen", () => {
  it.each([
    `blocks:${BLOCKS},exec=16,share=group`,
    `blocks:${BLOCKS},query=token,share=none,representative=bounds`,
    "knn:k=5,window=16",
    "knn:k=5,window=16,merge=gate,gate=0.5,scale=4",
  ])("is seen by hooks as on the reference: %s", async (spec) => {
    const seen = async (model: LanguageModel, chunk: number) => {
      const rows: string[] = [];
      const look = looking((plan, layer, first) => {
        for (const { tokens } of [...plan.segments, ...(plan.gated?.segments ?? [])])
          if (tokens instanceof ChosenRows)
            for (let row = 0; row < tokens.count; row++)
              for (let list = 0; list < tokens.heads; list++)
                rows.push(`${layer} ${first} ${tokens.first + row} ${list}: ${tokens.list(row, list).join()}`);
        return plan;
      });
      const session = model.session({ method: [...methods.parse(spec), look], chunk, capacity: 256 });
      await session.prefill(text.slice(0, 70));
      await session.prefill(text.slice(70, 71));
      return rows;
    };
    const expected = await seen(models.reference, 32);
    expect(expected.length).toBeGreaterThan(10);
    for (const chunk of [32, 1]) {
      const rows = await seen(models.exact, chunk);
      const own = chunk === 32 || spec.includes("exec") ? expected : await seen(models.reference, chunk);
      expect(rows).toEqual(own);
    }
  });

  it("is in the attention weights of a capture", async () => {
    for (const chunk of [64, 1]) {
      const weights = await Promise.all(
        [models.reference, models.exact].map(async (model) => {
          const capture = new Capture({ layers: [1], attention: true });
          const session = model.session({ method: methods.parse("knn:k=3,window=12"), chunk, capacity: 256 });
          await session.prefill(text.slice(0, 60), { capture });
          return capture.attention(1).flatMap((one) => [...one.weights]);
        }),
      );
      expect(difference(Float32Array.from(weights[1]), Float32Array.from(weights[0]))).toBeLessThan(1e-5);
    }
  });

  it("can be replaced by a hook, by tokens of the chunk too, and under another rotation", async () => {
    const replaced = looking((plan, _, first) => {
      const segments = plan.segments.flatMap((segment): Segment[] => {
        if (!(segment.tokens instanceof ChosenRows)) return [segment];
        const { count } = segment.tokens;
        // Some of the first tokens, others for each head, and one that may belong to the chunk.
        const lists = Array.from({ length: count * 6 }, (_list, i) =>
          Int32Array.from(new Set([2 + (i % 3), 5 + (i % 4), Math.max(0, first + Math.floor(i / 6) - 12)])).sort(),
        );
        const tokens = new ChosenRows(first, count, 6, lists);
        const band = { from: 12, to: Infinity };
        return [{ ...segment, tokens, band, queryPosition: constantPosition(3), keyPosition: TEXT_POSITION }];
      });
      return { ...plan, segments };
    });
    const method = [...methods.parse("knn:k=3,window=12,sinks=0"), replaced];
    const read = async (model: LanguageModel, chunk: number) =>
      model.session({ method, chunk, capacity: 256 }).prefill(text.slice(0, 60), { logitRows: 60 });
    for (const chunk of [40, 1])
      expect(difference(await read(models.exact, chunk), await read(models.reference, chunk))).toBeLessThan(1e-4);
  });
});

/** A method whose every layer has near tokens and what a choice takes of the others. */
function choosing(choice: (segment: Segment, first: number, count: number) => Choice): Method {
  return {
    spec: "choosing",
    axes: ["visibility", "distance"],
    rawKeys: true,
    segments: ([segment], { first, count }) => {
      const made = choice(segment, first, count);
      const { queryPosition, keyPosition } = made;
      const near = within(segment, { from: -Infinity, to: 8 })!;
      const far = within({ ...segment, queryPosition, keyPosition }, { from: 8, to: Infinity })!;
      return [near, { ...far, tokens: { choice: made, ranks: { from: 0, to: made.count } } }];
    },
  };
}

const oneAnswer = (changes: Partial<Choice>) =>
  choosing((segment, first, count) => ({
    id: "one",
    size: 1,
    from: 0,
    candidates: Math.max(0, first - 8),
    count: 6,
    asking: { from: first, to: first + count },
    table: segment.table,
    queryPosition: TEXT_POSITION,
    keyPosition: TEXT_POSITION,
    ...changes,
  }));

describe("choices that no method makes yet", () => {
  it.each<[string, Method]>([
    ["tokens for all heads, at their positions", oneAnswer({})],
    ["tokens for each head, at their positions", oneAnswer({ share: "none" })],
    ["cosines of each key head", oneAnswer({ share: "group", scales: Array.from({ length: 2 }, () => new Float32Array(6).fill(2)) })], // prettier-ignore
  ])("%s", async (_, method) => {
    for (const chunk of [20, 1]) {
      const read = (model: LanguageModel) =>
        model.session({ method, chunk, capacity: 256 }).prefill(text.slice(0, 80), { logitRows: 80 });
      expect(difference(await read(models.exact), await read(models.reference))).toBeLessThan(1e-4);
    }
  });

  it.each<[RegExp, Partial<Choice>]>([
    [/cosines of several key heads/, { scales: [new Float32Array(6), new Float32Array(6)] }],
    [/attention mass/, { share: "none", representative: { kind: "salient", tokens: 1, band: 20 } }],
  ])("%s are refused by name", async (message, changes) => {
    const session = models.exact.session({ method: oneAnswer(changes), chunk: 20 });
    await expect(session.prefill(text.slice(0, 60))).rejects.toThrow(message);
  });
});

describe("attention mass", () => {
  const method = methods.parse(`blocks:${BLOCKS},exec=16,representative=salient,repr=2`);

  it("is a part of the state: counted, forked, saved, and not taken back", async () => {
    const session = models.exact.session({ method, chunk: 16, capacity: 256 });
    await session.prefill(text.slice(0, 50));
    expect(session.bytesByPart.index).toBeGreaterThanOrEqual(2 * 50 * 3 * 4);
    expect(() => session.truncate(40)).toThrow(/attention mass/);
    const restored = models.exact.restoreSession(await session.save(), { method, chunk: 16, capacity: 256 });
    const [a, b, c] = await Promise.all(
      [session, session.fork(), restored].map((one) => one.prefill(text.slice(50, 120), { logitRows: 70 })),
    );
    // A restored session finds old blocks in other places, so that its sums round otherwise.
    expect(difference(b, a)).toBeLessThan(1e-5);
    expect(difference(c, a)).toBeLessThan(1e-5);
    session.truncate(0);
    const again = await session.prefill(text.slice(0, 120), { logitRows: 120 });
    const whole = await models.reference.session({ method, chunk: 16 }).prefill(text.slice(0, 120), { logitRows: 120 });
    expect(difference(again, whole)).toBeLessThan(1e-4);
    session.dispose();
    expect(session.bytes).toBe(0);
  });

  it("is counted in the last layer too where nobody asks for logits", async () => {
    const read = async (model: LanguageModel, rows: number) => {
      const session = model.session({ method, chunk: 16, capacity: 256 });
      for (let first = 0; first < 112; first += 16)
        await session.prefill(text.slice(first, first + 16), { logitRows: rows });
      return session.prefill(text.slice(112, 144), { logitRows: 32 });
    };
    expect(difference(await read(models.exact, 0), await read(models.reference, 1))).toBeLessThan(1e-4);
  });
});

it.each([`blocks:${BLOCKS},query=token,share=none`, "blocks:size=20,top=2,local=16,sinks=2,query=token,share=group"])(
  "takes 8 bits under fast where all blocks are taken: %s",
  async (spec) => {
    // The choice itself may fall otherwise under 8 bits, so that everything is taken.
    const method = methods.parse(spec.replace("top=2", "top=99"));
    const wide = modelsOf({ headSize: 16, rope: { type: "default", base: 100, rotarySize: 16 } });
    const read = async (model: LanguageModel) => {
      const session = model.session({ method, chunk: 32, capacity: 256 });
      await session.prefill(text.slice(0, 90));
      const rows: number[] = [];
      for (const id of text.slice(90, 100)) rows.push(...(await session.prefill([id])));
      return Float32Array.from(rows);
    };
    const expected = await read(wide.reference);
    expect(difference(await read(wide.fast), expected)).toBeLessThan(0.1);
    expect(difference(await read(wide.exact), expected)).toBeLessThan(1e-4);
  },
);
