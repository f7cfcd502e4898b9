import type { Activation, TensorType, WeightTensor } from "@longctx/core";
import { ACTIVATE } from "../../../src/reference/dense.ts";
import type { Gpu } from "../../../src/webgpu/device/gpu.ts";
import type { Capabilities, Dispatch } from "../../../src/webgpu/device/kernel.ts";
import type { Product, ProductKey } from "../../../src/webgpu/products/product.ts";
import { uploadMatrices } from "../../../src/webgpu/weights/weights-upload.ts";
import { productOracle } from "../../oracles/product.ts";
import { floats, relativeError } from "../device.ts";
import { noisy, storedMatrix } from "../weights/stored-weights.ts";

/** A product that does nothing beside the sum. */
export const KEY: ProductKey = {
  type: "F32",
  norm: false,
  bias: false,
  add: false,
  activation: null,
  cap: false,
  ragged: false,
};

/** Columns that are whole storage blocks of a type, and where it has none a last block of 32 that is not full. */
export const columnsOf = (type: TensorType): number => (type.endsWith("_K") ? 512 : type.startsWith("Q") ? 96 : 36);

/** What a product does beside the sum. */
export interface Case {
  readonly product?: Partial<Pick<Product, "add" | "cap">>;
  readonly norm?: boolean;
  readonly bias?: boolean;
  readonly activation?: Activation;
  readonly maxBinding?: number;
  /** In place of a random one. */
  readonly matrix?: WeightTensor;
  /** What becomes of inputs from −1 to 1. */
  readonly input?: (value: number, column: number) => number;
}

/** Runs one product of the given shape and gives its error against float64. */
export async function errorOf(
  device: Gpu,
  make: (product: Product, capabilities: Capabilities) => Dispatch,
  type: TensorType,
  [tokens, rows, columns]: readonly [number, number, number],
  { product = {}, norm, bias, activation, maxBinding = 2 ** 27, matrix, input: change = (value) => value }: Case = {},
): Promise<number> {
  const held: { dispose(): void }[] = [];
  const put = (data: Float32Array) => {
    const slice = device.upload(data, "weights");
    held.push({ dispose: () => device.free(slice) });
    return slice;
  };
  const first = matrix ?? storedMatrix(type, activation ? rows / 2 : rows, columns, 5);
  const second = storedMatrix(type, activation ? rows / 2 : 1, columns, 6);
  const matrices = activation
    ? uploadMatrices(device, [first, second], { interleave: true })
    : uploadMatrices(device, [first], { maxBinding });
  const input = noisy(tokens * columns, 7).map((value, i) => change(value, i % columns));
  const gain = noisy(columns, 8);
  const biases = noisy(rows, 9);
  const width = activation ? rows / 2 : rows;
  const before = noisy(tokens * width, 10);
  const output = put(before);
  const whole: Omit<Product, "matrix"> = {
    tokens,
    input: put(input),
    output,
    outputStride: width,
    ...product,
    ...(norm ? { norm: { weight: put(gain), epsilon: 1e-5 } } : {}),
    ...(bias ? { bias: put(biases) } : {}),
    ...(activation ? { activation } : {}),
  };
  await device.run(matrices.map((part) => make({ ...whole, matrix: part }, device.capabilities)));
  const actual = await floats(device, output);
  const weights = new Float64Array(rows * columns);
  const stored = [first.toFloat32(), second.toFloat32()];
  for (let row = 0; row < rows; row++) {
    const [values, at] = activation ? [stored[row % 2], row >> 1] : [stored[0], row];
    weights.set(values.subarray(at * columns, (at + 1) * columns), row * columns);
  }
  const expected = productOracle(weights, input, {
    columns,
    norm: norm ? { weight: gain, epsilon: 1e-5 } : undefined,
    bias: bias ? biases : undefined,
    activate: activation && ACTIVATE[activation],
    cap: product.cap,
  }).map((value, i) => value + (product.add ? before[i] : 0));
  for (const { dispose } of held) dispose();
  for (const { codes, scales } of matrices) for (const slice of [codes, scales]) if (slice) device.free(slice);
  return relativeError(actual, expected);
}
