import { describe, expect, it } from "vitest";
import { LanguageModel, type Method, type ModelConfig, type Precision, type Session } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { parseMethod } from "../src/methods.ts";
import { difference, tinyIds } from "./devices.ts";

const CAPACITY = 4096;
const SHAPES: Readonly<Record<string, Partial<ModelConfig>>> = {
  "heads of 8": { headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } },
  "heads of 6, which have no kernels for single tokens": { headSize: 6, rope: { type: "default", base: 100, rotarySize: 6 } }, // prettier-ignore
  "a window of its own in a layer": {
    headSize: 8,
    rope: { type: "default", base: 100, rotarySize: 8 },
    slidingWindows: [null, 10],
  },
};
const SPECS = [
  "blocks:size=4,top=6,local=16,sinks=2,exec=8",
  "blocks:size=3,top=4,local=9,sinks=1,exec=16,positions=ordered",
  "yarn:factor=4+blocks:size=4,top=3,local=16,sinks=0,exec=8",
  "ntk:factor=4+blocks:size=4,top=3,local=16,sinks=2,exec=8,positions=ordered",
  "random-blocks:size=4,top=5,local=16,sinks=2,exec=8",
  "yarn:factor=4+random-blocks:size=4,top=5,local=16,sinks=2,exec=8,positions=ordered",
  "oracle-block:from=100,to=130,size=4,local=16,sinks=2,exec=8",
];

const opened = new Map<string, LanguageModel>();
function modelOf(shape: keyof typeof SHAPES, precision: Precision): LanguageModel {
  const key = `${shape} ${precision}`;
  if (!opened.has(key)) {
    const config = tinyConfig({ maxPositions: 512, queryHeads: 6, keyHeads: 3, ...SHAPES[shape] });
    const backend = createCpu(config, tinyWeights(config), { threads: 2, precision });
    opened.set(key, new LanguageModel({ backend, tokenizer: null, chatTemplate: null }));
  }
  return opened.get(key)!;
}

/** A session whose old tokens leave the buffers, and one whose buffers hold all tokens. */
function pair(spec: string, shape: keyof typeof SHAPES = "heads of 8", precision: Precision = "exact") {
  const method = parseMethod(spec);
  const full: Method[] = method.parts.map((part) => ({ ...part, near: undefined }));
  const open = (of: Method | readonly Method[]) =>
    modelOf(shape, precision).session({ method: of, capacity: CAPACITY });
  return { method, cold: open(method), full: open(full) };
}

/** Reads tokens and, after every hundredth, continues token by token; the logits of all. */
async function read(session: Session, ids: readonly number[], single = 7): Promise<Float32Array> {
  const logits: number[] = [];
  for (let at = 0; at < ids.length; at += 100) {
    const part = ids.slice(at, at + 100 - single);
    logits.push(...(await session.prefill(part, { logitRows: part.length })));
    for (const id of ids.slice(at + 100 - single, at + 100)) logits.push(...(await session.prefill([id])));
  }
  return Float32Array.from(logits);
}

const text = tinyIds(1500, 3);

describe.each(Object.keys(SHAPES))("old tokens outside of the buffers: %s", (shape) => {
  it.each(SPECS)("%s", async (spec) => {
    const { cold, full } = pair(spec, shape);
    const ids = text.slice(0, 400);
    expect(difference(await read(cold, ids), await read(full, ids))).toBeLessThan(1e-5);
    expect(full.bytesByPart.far).toBe(0);
    expect(cold.bytesByPart.far).toBeGreaterThan(0);
    expect(cold.bytesByPart.ring).toBeLessThan(full.bytesByPart.ring / 4);
  });
});
