import { afterAll, describe, expect, it } from "vitest";
import { ACTIVATIONS, TENSOR_TYPES, type Activation, type TensorType } from "@longctx/core";
import { ACTIVATE } from "../../../src/reference/dense.ts";
import { route } from "../../../src/reference/experts.ts";
import { expertProduct, type ExpertProduct } from "../../../src/webgpu/products/expert-product.ts";
import { routeBytes, routeTokens, type RouteKey } from "../../../src/webgpu/products/experts.ts";
import type { RowTiling } from "../../../src/webgpu/device/tilings.ts";
import { productOracle } from "../../oracles/product.ts";
import { interleavable, uploadMatrices } from "../../../src/webgpu/weights/weights-upload.ts";
import { floats, gpuOrNull, relativeError } from "../device.ts";
import { noisy, storedMatrix } from "../weights/stored-weights.ts";

const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());

const put = (data: ArrayBufferView) => gpu.upload(data, "test");

async function routesOf(experts: RouteKey, router: Float32Array, input: Float32Array, hiddenSize: number, offset = 0) {
  const tokens = (input.length - offset) / hiddenSize;
  const routes = gpu.allocate(routeBytes(tokens, experts), "test");
  const work = { experts, tokens, input: put(input), inputOffset: offset, hiddenSize, epsilon: 1e-5, routes };
  await gpu.run([routeTokens({ ...work, router: put(router) }, gpu.capabilities)]);
  const bytes = await gpu.read(routes);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return Array.from({ length: tokens }, (_, t) =>
    Array.from({ length: experts.perToken }, (_route, j) => {
      const at = 8 * (t * experts.perToken + j);
      return { expert: view.getUint32(at, true), weight: view.getFloat32(at + 4, true) };
    }),
  );
}

describe.skipIf(!gpu)("routing", () => {
  it.each([
    [5, 2, true, 32],
    [12, 4, false, 36],
    [128, 8, true, 64],
    [200, 1, false, 20],
    [3, 3, true, 8],
  ])("chooses of %i experts the %i likeliest (renormalised: %s)", async (count, perToken, renormalise, hiddenSize) => {
    const experts = { count, perToken, renormalise };
    const router = noisy(count * hiddenSize, 3);
    const input = noisy(8 + 7 * hiddenSize, 4);
    const routes = await routesOf(experts, router, input, hiddenSize, 8);
    routes.forEach((chosen, t) => {
      const row = input.subarray(8 + t * hiddenSize, 8 + (t + 1) * hiddenSize);
      const norm = { weight: new Float32Array(hiddenSize).fill(1), epsilon: 1e-5 };
      const expected = route(productOracle(router, row, { columns: hiddenSize, norm }), experts);
      expect(chosen.map(({ expert }) => expert)).toEqual(expected.map(({ expert }) => expert));
      chosen.forEach(({ weight }, j) => expect(Math.abs(weight - expected[j].weight)).toBeLessThan(2e-6));
    });
  });

  it("takes the first of experts that are equally likely", async () => {
    const [chosen] = await routesOf({ count: 6, perToken: 4, renormalise: true }, new Float32Array(24), noisy(4, 1), 4);
    expect(chosen).toEqual([0, 1, 2, 3].map((expert) => ({ expert, weight: 0.25 })));
  });
});

interface Case {
  readonly tiling?: RowTiling;
  readonly maxBinding?: number;
  readonly maxWorkgroups?: number;
  readonly activation?: Activation;
  /** Gate and up of different types. */
  readonly mixed?: boolean;
}

const EXPERTS = 3;
const TOKENS = 5;
/** [T, 2] */
const CHOSEN = [
  [2, 0],
  [1, 2],
  [0, 1],
  [2, 1],
  [0, 2],
];
const WEIGHTS = noisy(2 * TOKENS, 12);

function uploadRoutes() {
  const words = new Uint32Array(4 * TOKENS);
  CHOSEN.flat().forEach((expert, slot) => {
    words[2 * slot] = expert;
    words.set(new Uint32Array(WEIGHTS.slice(slot, slot + 1).buffer), 2 * slot + 1);
  });
  return put(words);
}

/** The error of both products of a layer against float64, over weights of one type. */
async function errorsOf(
  type: TensorType,
  { tiling, maxBinding, maxWorkgroups, activation = "silu", mixed }: Case = {},
) {
  const [hidden, inner] = type.endsWith("_K") ? [256, 256] : [96, 64];
  const capabilities = { ...gpu.capabilities, ...(maxWorkgroups && { maxWorkgroupsPerDimension: maxWorkgroups }) };
  const pairs = Array.from({ length: EXPERTS }, (_, e) => [
    storedMatrix(type, inner, hidden, 20 + e),
    storedMatrix(mixed && e === 1 ? "F16" : type, inner, hidden, 30 + e),
  ]);
  const downs = Array.from({ length: EXPERTS }, (_, e) => storedMatrix(type, hidden, inner, 40 + e));
  const options = maxBinding ? { maxBinding } : {};
  const gateUp = uploadMatrices(gpu, interleavable(pairs.flat()), { ...options, interleave: true });
  const down = uploadMatrices(gpu, downs, options);
  const [input, gain, before] = [noisy(TOKENS * hidden, 5), noisy(hidden, 6), noisy(TOKENS * hidden, 7)];
  const middle = put(new Float32Array(2 * TOKENS * inner));
  const [output, routes] = [put(before), uploadRoutes()];
  const common = { routes, perToken: 2, tokens: TOKENS };
  const gates = { activation, norm: { weight: put(gain), epsilon: 1e-5 } };
  const make = (work: ExpertProduct) => expertProduct(work, capabilities, tiling);
  await gpu.run([
    ...gateUp.flatMap((matrix) =>
      make({ ...common, matrix, expertRows: 2 * inner, input: put(input), output: middle, gates }),
    ),
    ...down.flatMap((matrix) => make({ ...common, matrix, expertRows: hidden, input: middle, output })),
  ]);
  const norm = { weight: gain, epsilon: 1e-5 };
  const between = new Float64Array(2 * TOKENS * inner);
  const expected = Float64Array.from(before);
  CHOSEN.flat().forEach((expert, slot) => {
    const token = slot >> 1;
    const row = input.subarray(token * hidden, (token + 1) * hidden);
    const [gate, up] = pairs[expert].map((one) => productOracle(one.toFloat32(), row, { columns: hidden, norm }));
    const inside = gate.map((value, i) => WEIGHTS[slot] * ACTIVATE[activation](value) * up[i]);
    between.set(inside, slot * inner);
    productOracle(downs[expert].toFloat32(), inside, { columns: inner }).forEach((value, i) => {
      expected[token * hidden + i] += value;
    });
  });
  return [relativeError(await floats(gpu, middle), between), relativeError(await floats(gpu, output), expected)];
}

describe.skipIf(!gpu)("products of the experts chosen", () => {
  const expectWithin = async (type: TensorType, options?: Case) => {
    for (const error of await errorsOf(type, options)) expect(error).toBeLessThan(5e-6);
  };

  it.each(TENSOR_TYPES)("are those in float64: %s", async (type) => expectWithin(type));

  it.each(ACTIVATIONS)("with every activation: %s", async (activation) => expectWithin("F32", { activation }));

  it("with rows shared by teams of invocations", async () => {
    await expectWithin("Q4_K", { tiling: { teamSize: 16, teams: 8, rows: 2, tokens: 1, unit: "block" } });
    await expectWithin("F32", { tiling: { teamSize: 32, teams: 3, rows: 4, tokens: 1, unit: "quarter" } });
  });

  it("with a stack in parts, which end inside of experts", async () => {
    await expectWithin("F32", { maxBinding: 40 * 96 * 4 });
    await expectWithin("F32", {
      maxBinding: 40 * 96 * 4,
      tiling: { teamSize: 8, teams: 4, rows: 2, tokens: 1, unit: "block" },
    });
  });

  it("with more rows than workgroups in a dimension", async () => expectWithin("F16", { maxWorkgroups: 3 }));

  it("with gates and ups of different types", async () => expectWithin("Q8_0", { mixed: true }));
});
