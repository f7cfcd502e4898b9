import type { Precision } from "../../backend/backend.ts";
import type { WeightTensor } from "../../model/weights.ts";
import type { Graph } from "./graph.ts";
import { isQuantised, quantisedMatrix, type QuantisedMatrix } from "../weights/quantised.ts";

/** MatMulNBits computes float32 products of dequantised weights at level 0, int8 products at level 4. */
const LEVEL: Record<Precision, number> = { exact: 0, fast: 4 };

/** An input of products, with the sums of its blocks by block size, which products over the same input share. */
export interface Operand {
  readonly value: string;
  readonly sums: Map<number, string>;
}

export function operand(value: string): Operand {
  return { value, sums: new Map() };
}

/** x · Wᵀ of one or several matrices, outputs side by side, [.., N]; matrices of one storage type become one product. */
export function product(graph: Graph, x: Operand, weights: readonly WeightTensor[], precision: Precision): string {
  if (weights.every((weight) => !isQuantised(weight.type))) return floatProduct(graph, x, weights);
  if (weights.every((weight) => weight.type === weights[0].type))
    return quantisedProduct(graph, x, quantisedMatrix(weights), precision);
  return graph.op(
    "Concat",
    weights.map((weight) => product(graph, x, [weight], precision)),
    { ints: { axis: -1 } },
  );
}

function floatProduct(graph: Graph, x: Operand, weights: readonly WeightTensor[]): string {
  const inputs = weights[0].shape[1];
  const outputs = weights.reduce((sum, weight) => sum + weight.shape[0], 0);
  // onnxruntime packs a constant [K, N] when it loads the graph, but not a constant [N, K].
  const transposed = graph.arena.floats(inputs * outputs);
  let first = 0;
  for (const weight of weights) {
    const rows = weight.shape[0];
    const values = weight.toFloat32();
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < inputs; column++)
        transposed[column * outputs + first + row] = values[row * inputs + column]!;
    }
    first += rows;
  }
  return graph.op("MatMul", [x.value, graph.constant(transposed, [inputs, outputs])]);
}

/**
 * MatMulNBits takes codes around a zero point of 2^(bits − 1). The rest of w = scale · (code − zero) + (min + scale · zero)
 * is the same for a whole block, so it is a small product with the sums of the input's blocks.
 */
function quantisedProduct(graph: Graph, x: Operand, matrix: QuantisedMatrix, precision: Precision): string {
  const { rows, columns, blockSize } = matrix;
  const blocks = columns / blockSize;
  // 8 bits at level 0 take 18 times as long as 4 for a single row, so the two halves of a code are two products.
  const halved = matrix.bits === 8 && precision === "exact";
  const size = halved ? 4 : matrix.bits;
  const zero = halved ? 16 * 8 + 8 : 2 ** (size - 1);
  const codes = [0, ...(halved ? [4] : [])].map((shift) => ({
    shift,
    packed: graph.arena.bytes((rows * columns * size) / 8),
    scales: graph.arena.floats(rows * blocks),
  }));
  const rest = matrix.zero === zero ? null : graph.arena.floats(rows * blocks);
  for (const part of matrix.parts()) {
    for (const { shift, packed, scales } of codes) {
      const at = (part.first * columns * size) / 8;
      if (size === 8) packed.set(part.codes.subarray(0, part.count * columns), at);
      else packNibbles(part.codes, shift, packed.subarray(at, at + (part.count * columns) / 2));
      for (let i = 0; i < part.count * blocks; i++) scales[part.first * blocks + i] = part.scales[i] * 2 ** shift;
    }
    if (!rest) continue;
    for (let row = 0; row < part.count; row++) {
      for (let block = 0; block < blocks; block++) {
        const i = row * blocks + block;
        rest[block * rows + part.first + row] = part.mins[i] + zero * part.scales[i];
      }
    }
  }
  const products = codes.map(({ packed, scales }) =>
    graph.op(
      "MatMulNBits",
      [
        x.value,
        graph.constant(packed, [rows, blocks, (blockSize * size) / 8]),
        graph.constant(scales, [rows * blocks]),
      ],
      { ints: { K: columns, N: rows, bits: size, block_size: blockSize, accuracy_level: LEVEL[precision] } },
    ),
  );
  const output = products.length > 1 ? graph.op("Add", products) : products[0];
  if (!rest) return output;
  const sums = blockSums(graph, x, blocks, blockSize);
  return graph.op("Add", [output, graph.op("MatMul", [sums, graph.constant(rest, [blocks, rows])])]);
}

function blockSums(graph: Graph, x: Operand, blocks: number, blockSize: number): string {
  const known = x.sums.get(blockSize);
  if (known) return known;
  const grouped = graph.op("Reshape", [x.value, graph.integers(1, -1, blocks, blockSize)]);
  const sums = graph.op("ReduceSum", [grouped, graph.integers(3)], { ints: { keepdims: 0 } });
  x.sums.set(blockSize, sums);
  return sums;
}

/** Packs four bits of each code, from bit `shift` on, two codes a byte with the first in the low nibble. */
function packNibbles(codes: Uint8Array, shift: number, packed: Uint8Array): void {
  for (let i = 0; i < packed.length; i++)
    packed[i] = ((codes[2 * i] >> shift) & 15) | (((codes[2 * i + 1] >> shift) & 15) << 4);
}
