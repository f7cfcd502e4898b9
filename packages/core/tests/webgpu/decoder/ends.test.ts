import { afterAll, describe, expect, it } from "vitest";
import { ACTIVATIONS, drawToken, makeDraws, TENSOR_TYPES, type SamplingOptions } from "@longctx/core";
import { ACTIVATE } from "../../../src/reference/dense.ts";
import { activate } from "../../../src/webgpu/products/activation.ts";
import { argmax, argmaxScratch, NO_TOKEN } from "../../../src/webgpu/sampling/argmax.ts";
import { embed } from "../../../src/webgpu/products/embedding.ts";
import { normalise } from "../../../src/webgpu/products/norm.ts";
import { sample, sampleKernel, sampleSizes, seenBits } from "../../../src/webgpu/sampling/sample.ts";
import type { SampleSizes } from "../../../src/webgpu/sampling/sample-functions.ts";
import { uploadMatrices } from "../../../src/webgpu/weights/weights-upload.ts";
import { floats, gpuOrNull, relativeError } from "../device.ts";
import { columnsOf } from "../products/product-scene.ts";
import { noise, noisy, storedMatrix } from "../weights/stored-weights.ts";
import { workgroupMemory } from "../workgroup-memory.ts";

const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());

async function words(slice: Parameters<typeof gpu.read>[0]): Promise<Uint32Array> {
  return new Uint32Array((await floats(gpu, slice)).buffer);
}

describe.skipIf(!gpu)("the embedding", () => {
  it.each(TENSOR_TYPES)("gives rows of %s as they are dequantised, times a scale", async (type) => {
    const columns = columnsOf(type);
    const stored = storedMatrix(type, 251, columns, 2);
    const ids = [250, 0, 17, 17, 128];
    const idSlice = gpu.upload(Uint32Array.from(ids), "test");
    const output = gpu.allocate(ids.length * columns * 4, "test");
    const parts = uploadMatrices(gpu, [stored], { maxBinding: 2 ** 15 });
    await gpu.run(
      parts.map((matrix) => embed({ matrix, ids: idSlice, tokens: ids.length, output, scale: 8 }, gpu.capabilities)),
    );
    const all = stored.toFloat32();
    const expected = ids.flatMap((id) => [...all.subarray(id * columns, (id + 1) * columns)].map((value) => 8 * value));
    expect(relativeError(await floats(gpu, output), expected)).toBeLessThan(2e-7);
  });

  it("has more than 65,535 workgroups", async () => {
    const matrix = uploadMatrices(gpu, [storedMatrix("F16", 3, 4)])[0];
    const tokens = 65_536 * 16 + 5;
    const ids = new Uint32Array(tokens).map((_, i) => i % 3);
    const output = gpu.allocate(tokens * 16, "test");
    const capabilities = { ...gpu.capabilities, maxWorkgroupsPerDimension: 65_535 };
    await gpu.run([embed({ matrix, ids: gpu.upload(ids, "test"), tokens, output }, capabilities)]);
    const values = storedMatrix("F16", 3, 4).toFloat32();
    const actual = await floats(gpu, output);
    gpu.free(output);
    expect([...actual.subarray(-4)]).toEqual([...values.subarray(4 * ((tokens - 1) % 3)).subarray(0, 4)]);
    expect(actual.every((value, i) => value === values[4 * ((i >> 2) % 3) + (i & 3)])).toBe(true);
  });
});

describe.skipIf(!gpu)("a norm", () => {
  const [tokens, size] = [3, 36];
  const input = noisy(tokens * size, 1).map((value) => value + 3);
  const delta = noisy(tokens * size, 2);
  const weight = noisy(size, 3);
  const bias = noisy(size, 4);

  function expected(kind: "rms" | "layer", rows: Float32Array, epsilon: number): Float64Array {
    const out = new Float64Array(rows.length);
    for (let row = 0; row < rows.length; row += size) {
      const values = [...rows.subarray(row, row + size)];
      const mean = kind === "layer" ? values.reduce((sum, x) => sum + x, 0) / size : 0;
      const square = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / size;
      values.forEach((x, i) => {
        out[row + i] = ((x - mean) / Math.sqrt(square + epsilon)) * weight[i] + (kind === "layer" ? bias[i] : 0);
      });
    }
    return out;
  }

  it.each(["rms", "layer"] as const)("of kind %s is the one in float64, behind a residual too", async (kind) => {
    const whole = {
      kind, tokens, size, epsilon: 1e-5,
      weight: gpu.upload(weight, "test"),
      bias: kind === "layer" ? gpu.upload(bias, "test") : undefined,
    }; // prettier-ignore
    const output = gpu.allocate(tokens * size * 4, "test");
    await gpu.run([normalise({ ...whole, input: gpu.upload(input, "test"), output }, gpu.capabilities)]);
    expect(relativeError(await floats(gpu, output), expected(kind, input, 1e-5))).toBeLessThan(2e-6);

    const stream = gpu.upload(input, "test");
    const behind = { ...whole, input: stream, delta: gpu.upload(delta, "test"), output };
    await gpu.run([normalise(behind, gpu.capabilities)]);
    const sum = input.map((value, i) => value + delta[i]);
    expect(relativeError(await floats(gpu, stream), sum)).toBeLessThan(1e-7);
    expect(relativeError(await floats(gpu, output), expected(kind, sum, 1e-5))).toBeLessThan(2e-6);
  });

  it("is added to what a stream has", async () => {
    const before = noisy(2 * tokens * size, 9);
    const output = gpu.upload(before, "test");
    const whole = { kind: "rms", tokens, size, weight: gpu.upload(weight, "test"), epsilon: 1e-5 } as const;
    const work = { ...whole, input: gpu.upload(input, "test"), output, outputOffset: tokens * size, add: true };
    await gpu.run([normalise(work, gpu.capabilities)]);
    const want = Float64Array.from(before);
    expected("rms", input, 1e-5).forEach((value, i) => (want[tokens * size + i] += value));
    expect(relativeError(await floats(gpu, output), want)).toBeLessThan(2e-6);
  });
});

describe.skipIf(!gpu)("activations", () => {
  it.each(ACTIVATIONS)("%s of the gate, times up", async (activation) => {
    const [rows, size] = [3, 1000];
    const gateUp = noisy(2 * rows * size, 1).map((value) => 20 * value);
    gateUp.set([-100, 100, 0, -1e4, 1e4]);
    const output = gpu.allocate(rows * size * 4, "test");
    await gpu.run([activate({ activation, rows, size, gateUp: gpu.upload(gateUp, "test"), output }, gpu.capabilities)]);
    const actual = await floats(gpu, output);
    for (let row = 0; row < rows; row++)
      for (let i = 0; i < size; i++) {
        const gate = gateUp[2 * row * size + i];
        const up = gateUp[(2 * row + 1) * size + i];
        const want = ACTIVATE[activation](gate) * up;
        expect(Math.abs(actual[row * size + i] - want)).toBeLessThan(3e-6 * (1 + Math.abs(gate)) * Math.abs(up) + 1e-9);
      }
  });
});

async function argmaxOf(logits: Float32Array): Promise<number> {
  const size = logits.length;
  const result = gpu.allocate(4, "test");
  const scratch = gpu.allocate(argmaxScratch(size), "test");
  await gpu.run(argmax({ logits: gpu.upload(logits, "test"), size, scratch, result }));
  return (await words(result))[0];
}

describe.skipIf(!gpu)("argmax", () => {
  it("is the first of the largest, in one span or in many", async () => {
    for (const size of [1, 251, 4096, 10_007]) {
      const logits = noisy(size, size);
      expect(await argmaxOf(logits)).toBe(logits.indexOf(Math.max(...logits)));
      logits.fill(2, size >> 1);
      expect(await argmaxOf(logits)).toBe(size >> 1);
    }
  });

  it("passes over what is no number, and says when nothing is one", async () => {
    expect(await argmaxOf(Float32Array.of(NaN, -Infinity, -7, NaN))).toBe(2);
    expect(await argmaxOf(new Float32Array(300).fill(NaN))).toBe(NO_TOKEN);
  });
});

describe.skipIf(!gpu)("sampling on the device", () => {
  const size = 1003;
  const text = [3, 5, 900, 1002];
  const random = noise(4);
  // Steps of 1/16, so that many tokens are equally likely, over a range that leaves some of them to draw.
  const logits = Float32Array.from({ length: size }, () => Math.round(16 * 4 * random()) / 16);
  const cases: SamplingOptions[] = [
    { temperature: 0.7 },
    { temperature: 1, topK: 40 },
    { temperature: 1.3, topK: 1 },
    { temperature: 1, topP: 0.9 },
    { temperature: 0.8, topK: 200, topP: 0.7 },
    { temperature: 1, minP: 0.2 },
    { temperature: 1.5, topK: 5000, topP: 0.95, minP: 0.05 },
    { temperature: 0.9, topP: 0.8, repetitionPenalty: 1.3 },
    { temperature: 0.9, repetitionPenalty: 0.5 },
    { temperature: 0, repetitionPenalty: 1.7 },
  ];

  const expectAsSampler = async (options: SamplingOptions, all: Float32Array, draws: number, plan?: SampleSizes) => {
    const slice = gpu.upload(all, "test");
    const result = gpu.allocate(4 * draws, "test");
    const next = makeDraws({ ...options, seed: 11 });
    const work = Array.from({ length: draws }, () => next(text));
    const seen = options.repetitionPenalty ? gpu.upload(seenBits(text, all.length), "test") : undefined;
    const one = { logits: slice, size: all.length, result, seen };
    await gpu.run(work.map((draw, i) => sample({ ...one, draw, resultOffset: i }, gpu.capabilities, plan)));
    expect([...(await words(result))]).toEqual(work.map((draw) => drawToken(all, draw)));
  };

  it.each(cases)("draws what the sampler draws: %o", async (options) => {
    await expectAsSampler(options, logits, 40);
  });

  it("draws the same with more invocations, as hardware does, of a list that is full and of one that is too short", async () => {
    const plan = sampleSizes({ software: false, maxInvocations: 256, maxWorkgroupMemory: 32_768 });
    expect(plan).toEqual({ size: 256, loads: 4 });
    for (const options of cases) await expectAsSampler(options, logits, 8, plan);
    const many = Float32Array.from({ length: 4099 }, () => Math.round(8 * 4 * random()) / 8);
    for (const topK of [1023, 1024, 1025]) {
      await expectAsSampler({ temperature: 1.1, topK, topP: 0.8 }, many, 8, plan);
      await expectAsSampler({ temperature: 1.1, topK }, many, 8);
    }
  });

  it("has the invocations that a workgroup has memory for", () => {
    const least = { software: false, maxInvocations: 256, maxWorkgroupMemory: 16_384 };
    expect(sampleSizes(least)).toEqual({ size: 128, loads: 4 });
    expect(sampleSizes({ ...least, software: true })).toEqual({ size: 128, loads: 1 });
    for (const [plan, most] of [
      [sampleSizes(least), 16_384],
      [{ size: 256, loads: 4 }, 32_768],
    ] as const)
      expect(workgroupMemory(sampleKernel({ penalty: false }, plan).code)).toBeLessThanOrEqual(most);
  });

  it("draws tokens as often as they are likely", async () => {
    const draws = 4000;
    const few = Float32Array.from({ length: 24 }, (_, id) => Math.log(1 + (id % 7)));
    const slice = gpu.upload(few, "test");
    const result = gpu.allocate(4 * draws, "test");
    const next = makeDraws({ temperature: 1, topK: 14, seed: 3 });
    const work = Array.from({ length: draws }, (_, i) =>
      sample({ logits: slice, size: few.length, draw: next([]), result, resultOffset: i }, gpu.capabilities),
    );
    await gpu.run(work);
    const counts = new Float64Array(few.length);
    for (const id of await words(result)) counts[id]++;
    // Kept are the ids with weights 4 to 7, three of each, and the first two of the four with weight 3.
    const kept = (id: number) => id % 7 > 2 || id === 2 || id === 9;
    const weights = Array.from(few, (_, id) => (kept(id) ? 1 + (id % 7) : 0));
    const total = weights.reduce((sum, weight) => sum + weight);
    expect(counts.filter((_, id) => !kept(id)).every((count) => count === 0)).toBe(true);
    const chiSquare = counts.reduce((sum, count, id) => {
      const likely = (draws * weights[id]) / total;
      return kept(id) ? sum + (count - likely) ** 2 / likely : sum;
    }, 0);
    expect(chiSquare).toBeLessThan(34.5); // 13 degrees of freedom: once in a thousand
  });

  it("stays with a token where rounding leaves the draw at the end, and says when there is nothing to draw", async () => {
    const result = gpu.allocate(12, "test");
    const draw = { temperature: 1, topK: 7, topP: 1, minP: 0, repetitionPenalty: 1, uniform: 1 };
    const one = { size, result, draw };
    const good = gpu.upload(logits, "test");
    const broken = gpu.upload(new Float32Array(size).fill(NaN), "test");
    await gpu.run([
      sample({ ...one, logits: good }, gpu.capabilities),
      sample({ ...one, logits: good, draw: { ...draw, topK: 0 }, resultOffset: 1 }, gpu.capabilities),
      sample({ ...one, logits: broken, draw: { ...draw, uniform: 0.5 }, resultOffset: 2 }, gpu.capabilities),
    ]);
    const [filtered, plain, none] = await words(result);
    const ranked = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
    expect(ranked.slice(0, 7)).toContain(filtered);
    expect(plain).toBe(size - 1);
    expect(none).toBe(NO_TOKEN);
  });
});
