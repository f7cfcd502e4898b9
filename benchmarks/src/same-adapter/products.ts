import * as ort from "onnxruntime-node";
import type { WeightTensor } from "@longctx/core";
import type { Dispatch } from "@longctx/core/webgpu";
import { Graph } from "../../../packages/core/src/cpu/graph/graph.ts";
import { productDispatch } from "../../../packages/core/src/webgpu/products/product-path.ts";
import type { Product } from "../../../packages/core/src/webgpu/products/product.ts";
import { uploadMatrices } from "../../../packages/core/src/webgpu/weights/weights-upload.ts";
import { noisy, storedMatrix } from "../../../packages/core/tests/webgpu/weights/stored-weights.ts";
import { floats, onnxruntimeSide, type Contest } from "./contest.ts";

/** x · Wᵀ by one matrix after another, T rows; the widths follow each other around, so that all of it is one chain. */
export function products(
  name: string,
  tokens: number,
  widths: readonly [number, number],
  bits: 4 | 32,
  wanted: number,
): Contest {
  const times = tokens === 1 ? 32 : 4;
  const [a, b] = widths;
  const shapes = [
    [b, a],
    [a, b],
  ];
  const stored = shapes.map(([rows, columns], i) => matrixOf(rows, columns, bits, i + 1));
  const input = noisy(tokens * a, 9);
  return {
    name,
    wanted,
    times,
    operations: 2 * tokens * a * b,
    bytes: tokens === 1 ? stored[0].bytes().length : null,
    async ours(gpu) {
      const matrices = stored.map((tensor) => uploadMatrices(gpu, [tensor])[0]);
      const values = [a, b].map((width) => gpu.allocate(tokens * width * 4, "activations"));
      gpu.write(values[0], input);
      const again = gpu.upload(input, "activations");
      const dispatches: Dispatch[] = [];
      for (let i = 0; i < times; i++) {
        const which = i % 2;
        const product: Product = {
          matrix: matrices[which],
          tokens,
          input: i === 0 ? again : values[which],
          output: values[1 - which],
          outputStride: shapes[which][0],
        };
        dispatches.push(productDispatch(product, gpu.capabilities));
      }
      await gpu.prepare(dispatches.map(({ kernel }) => kernel));
      return { run: async () => floats((await gpu.runAndRead(dispatches, [values[0]]))[0]) };
    },
    async theirs() {
      const graph = new Graph();
      let value = graph.input("input", 2);
      const constants = stored.map((tensor) => constantsOf(graph, tensor));
      for (let i = 0; i < times; i++) {
        const [rows, columns] = shapes[i % 2];
        value =
          bits === 32
            ? graph.op("MatMul", [value, ...constants[i % 2]])
            : graph.op("MatMulNBits", [value, ...constants[i % 2]], {
                ints: { K: columns, N: rows, bits: 4, block_size: 32 },
              });
      }
      graph.op("Identity", [value], {}, "output");
      graph.output("output");
      return onnxruntimeSide(graph, { input: new ort.Tensor("float32", input, [tokens, a]) });
    },
  };
}

/** Rows scaled so that a chain of products neither grows nor fades. */
function matrixOf(rows: number, columns: number, bits: 4 | 32, seed: number): WeightTensor {
  if (bits === 4) {
    const tensor = storedMatrix("Q4_0", rows, columns, seed);
    const bytes = tensor.bytes();
    const view = new DataView(bytes.buffer);
    // Scales of 2^-8 in half precision: codes from -8 to 7 then have about the size they need.
    for (let at = 0; at < bytes.length; at += 18) view.setUint16(at, columns > 2048 ? 0x1800 : 0x1c00, true);
    return { ...tensor, bytes: () => bytes };
  }
  const values = noisy(rows * columns, seed).map((value) => value * Math.sqrt(3 / columns));
  const bytes = new Uint8Array(values.buffer);
  return { name: "matrix", type: "F32", shape: [rows, columns], bytes: () => bytes, toFloat32: () => values };
}

/** The matrix as onnxruntime wants it: [columns, rows] of floats, or codes and scales of blocks. */
function constantsOf(graph: Graph, tensor: WeightTensor): string[] {
  const [rows, columns] = tensor.shape;
  if (tensor.type === "F32") {
    const values = tensor.toFloat32();
    const transposed = new Float32Array(values.length);
    for (let n = 0; n < rows; n++) for (let k = 0; k < columns; k++) transposed[k * rows + n] = values[n * columns + k];
    return [graph.constant(transposed, [columns, rows])];
  }
  const stored = tensor.bytes();
  const blocks = columns / 32;
  const codes = new Uint8Array((rows * columns) / 2);
  const scales = new Float32Array(rows * blocks);
  for (let block = 0; block < rows * blocks; block++) {
    const at = 18 * block;
    const exponent = (stored[at + 1] >> 2) & 31;
    scales[block] = 2 ** (exponent - 15);
    const code = (i: number) => (i < 16 ? stored[at + 2 + i] & 15 : stored[at + 2 + i - 16] >> 4);
    for (let i = 0; i < 16; i++) codes[16 * block + i] = code(2 * i) | (code(2 * i + 1) << 4);
  }
  return [graph.constant(codes, [rows, blocks, 16]), graph.constant(scales, [rows * blocks])];
}
