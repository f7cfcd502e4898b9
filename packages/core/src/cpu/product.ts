import type { Precision } from "../backend.ts";
import type { WeightTensor } from "../weights.ts";
import type { Graph } from "./graph.ts";
import { isQuantised, unpack, type QuantisedMatrix } from "./quantised.ts";

/** MatMulNBits computes float32 products of dequantised weights at level 0, int8 products at level 4. */
const LEVEL: Record<Precision, number> = { exact: 0, fast: 4 };

/** An input of products, and the sums of its blocks once they are needed. */
export interface Operand {
  readonly value: string;
  readonly sums: Map<number, string>;
}

export function operand(value: string): Operand {
  return { value, sums: new Map() };
}

/**
 * x · Wᵀ for one or several matrices over the same input, their outputs side by side; [.., N]. Matrices of one type are
 * one product.
 */
export function product(graph: Graph, x: Operand, weights: readonly WeightTensor[], precision: Precision): string {
  if (weights.every((weight) => !isQuantised(weight.type))) return floatProduct(graph, x, weights);
  if (weights.every((weight) => weight.type === weights[0].type))
    return quantisedProduct(graph, x, stacked(weights.map(unpack)), precision);
  return graph.op(
    "Concat",
    weights.map((weight) => product(graph, x, [weight], precision)),
    { ints: { axis: -1 } },
  );
}

function floatProduct(graph: Graph, x: Operand, weights: readonly WeightTensor[]): string {
  const inputs = weights[0].shape[1];
  const outputs = weights.reduce((sum, weight) => sum + weight.shape[0], 0);
  // onnxruntime packs [K, N] ahead of time, and only that way round.
  const transposed = new Float32Array(inputs * outputs);
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

export function stacked(matrices: readonly QuantisedMatrix[]): QuantisedMatrix {
  if (matrices.length === 1) return matrices[0];
  const join = <Values extends Float32Array | Uint8Array>(parts: readonly Values[], all: Values): Values => {
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  };
  const size = (key: "codes" | "scales") => matrices.reduce((sum, matrix) => sum + matrix[key].length, 0);
  return {
    ...matrices[0],
    rows: matrices.reduce((sum, matrix) => sum + matrix.rows, 0),
    codes: join(
      matrices.map((matrix) => matrix.codes),
      new Uint8Array(size("codes")),
    ),
    scales: join(
      matrices.map((matrix) => matrix.scales),
      new Float32Array(size("scales")),
    ),
    mins: join(
      matrices.map((matrix) => matrix.mins),
      new Float32Array(size("scales")),
    ),
  };
}

/**
 * MatMulNBits takes codes around a zero point of 2^(bits − 1). The rest of w = scale · (code − zero) + (min + scale · zero)
 * is the same for a whole block, so it is a small product with the sums of the input's blocks.
 */
function quantisedProduct(graph: Graph, x: Operand, matrix: QuantisedMatrix, precision: Precision): string {
  const { rows, columns, blockSize, codes, scales, mins } = matrix;
  const blocks = columns / blockSize;
  const bits = (values: Uint8Array, size: 4 | 8, factors: Float32Array): string => {
    const packed = size === 8 ? values : packNibbles(values);
    const inputs = [
      x.value,
      graph.constant(packed, [rows, blocks, (blockSize * size) / 8]),
      graph.constant(factors, [rows * blocks]),
    ];
    return graph.op("MatMulNBits", inputs, {
      ints: { K: columns, N: rows, bits: size, block_size: blockSize, accuracy_level: LEVEL[precision] },
    });
  };
  let output: string;
  let zero: number;
  if (matrix.bits === 4) {
    output = bits(codes, 4, scales);
    zero = 8;
  } else if (precision === "fast") {
    output = bits(codes, 8, scales);
    zero = 128;
  } else {
    // 8 bits at level 0 take 18 times as long as 4 for a single row, so the two halves of a code are two products.
    const high = bits(
      codes.map((code) => code >> 4),
      4,
      scales.map((scale) => 16 * scale),
    );
    const low = bits(
      codes.map((code) => code & 15),
      4,
      scales,
    );
    output = graph.op("Add", [high, low]);
    zero = 16 * 8 + 8;
  }
  const rest = mins.map((min, i) => min + zero * scales[i]);
  if (rest.every((value) => value === 0)) return output;
  const transposed = new Float32Array(rest.length);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) transposed[block * rows + row] = rest[row * blocks + block]!;
  }
  const sums = blockSums(graph, x, blocks, blockSize);
  return graph.op("Add", [output, graph.op("MatMul", [sums, graph.constant(transposed, [blocks, rows])])]);
}

function blockSums(graph: Graph, x: Operand, blocks: number, blockSize: number): string {
  const known = x.sums.get(blockSize);
  if (known) return known;
  const grouped = graph.op("Reshape", [x.value, graph.integers(1, -1, blocks, blockSize)]);
  const sums = graph.op("ReduceSum", [grouped, graph.integers(3)], { ints: { keepdims: 0 } });
  x.sums.set(blockSize, sums);
  return sums;
}

/** Two codes a byte, the first in the low nibble. */
function packNibbles(codes: Uint8Array): Uint8Array {
  const packed = new Uint8Array(codes.length / 2);
  for (let i = 0; i < packed.length; i++) packed[i] = codes[2 * i] | (codes[2 * i + 1] << 4);
  return packed;
}
