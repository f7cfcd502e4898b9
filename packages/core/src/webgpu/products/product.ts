import type { Precision } from "../../backend/backend.ts";
import type { Activation } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import type { Dispatch, GpuSlice, Kernel } from "../device/kernel.ts";
import type { GpuMatrix, PackedMatrix } from "../weights/weights-packed.ts";
import { ACTIVATION_WGSL } from "./activation.ts";
import { declareKernel } from "../device/declare.ts";
import { READERS } from "./dequantise.ts";

/**
 * output[t, n] = Σ_k matrix[n, k] · input[t, k], and what is done in the same dispatch. All offsets and strides count
 * floats; those of the input are multiples of 4. Of a matrix in parts, each part writes its own columns of the output.
 * `productOracle` (tests/oracles/product.ts) judges the kernels of products.
 */
export interface Product {
  readonly matrix: GpuMatrix;
  /** T. */
  readonly tokens: number;
  readonly input: GpuSlice;
  readonly inputOffset?: number;
  readonly output: GpuSlice;
  readonly outputOffset?: number;
  /** From row to row: the columns of the whole output. */
  readonly outputStride: number;
  /** RMS norm of each input row before: its weight [columns] and ε. By rows only (`productPath`). */
  readonly norm?: { readonly weight: GpuSlice; readonly epsilon: number };
  /** [rows of the whole stack] */
  readonly bias?: GpuSlice;
  /** output += instead of =, for the residual. */
  readonly add?: boolean;
  /** The rows are interleaved, gate and up: writes activation(gate) · up, half as many columns. */
  readonly activation?: Activation;
  /** Soft cap c of logits: c · tanh(y / c). */
  readonly cap?: number;
  /** `exact` unless given; `fast` may multiply in 16 bits where the device computes with them. */
  readonly precision?: Precision;
}

/** What changes the code of a product. */
export interface ProductKey {
  readonly type: PackedMatrix["type"];
  readonly norm: boolean;
  readonly bias: boolean;
  readonly add: boolean;
  readonly activation: Activation | null;
  readonly cap: boolean;
  /** The last block of 32 columns is not full. */
  readonly ragged: boolean;
}

export function productKey({ matrix, norm, bias, add, activation, cap }: Product): ProductKey {
  if (matrix.columns % 4 !== 0)
    throw new LongctxError(
      "config",
      `A product over ${matrix.columns} columns: the WebGPU core needs sizes that 4 divides. Use the device cpu.`,
    );
  return {
    type: matrix.type,
    norm: norm !== undefined,
    bias: bias !== undefined,
    add: add ?? false,
    activation: activation ?? null,
    cap: cap !== undefined,
    ragged: matrix.columns % 32 !== 0,
  };
}

export function nameOf(key: ProductKey, ...tiling: readonly (string | number)[]): string {
  const flags = (["norm", "bias", "add", "cap", "ragged"] as const).filter((flag) => key[flag]);
  return ["product", key.type, ...flags, key.activation ?? "", ...tiling].filter((part) => part !== "").join(" ");
}

type Storage = [name: string, element: string, access: "read" | "write"];

/** Bindings in the order of `productBuffers`. */
export function productStorage(key: ProductKey): Storage[] {
  const { element, scaled } = READERS[key.type];
  const storage: Storage[] = [
    ["codes", element, "read"],
    ["input", "vec4<f32>", "read"],
    ["output", "f32", "write"],
  ];
  if (scaled) storage.push(["scales", "u32", "read"]);
  if (key.norm) storage.push(["gain", "vec4<f32>", "read"]);
  if (key.bias) storage.push(["bias", "f32", "read"]);
  return storage;
}

function productBuffers({ matrix, input, output, norm, bias }: Product): GpuSlice[] {
  const optional = [matrix.scales, norm?.weight, bias].filter((slice) => slice !== null && slice !== undefined);
  return [matrix.codes, input, output, ...optional];
}

const PRODUCT_UNIFORMS = {
  tokens: "u32",
  rows: "u32",
  /** Of a row, in vectors of four. */
  columns: "u32",
  /** In vectors of four. */
  input_offset: "u32",
  input_stride: "u32",
  output_offset: "u32",
  output_stride: "u32",
  first: "u32",
  epsilon: "f32",
  cap: "f32",
} as const;

function productUniforms(product: Product): number[] {
  const { matrix, tokens, inputOffset = 0, outputOffset = 0, outputStride, norm, cap } = product;
  const stride = matrix.columns;
  if (inputOffset % 4 !== 0 || stride % 4 !== 0)
    throw new Error(`Input rows at ${inputOffset} + t · ${stride} are not aligned to 4 floats.`);
  return [
    tokens,
    matrix.rows,
    matrix.columns / 4,
    inputOffset / 4,
    stride / 4,
    outputOffset,
    outputStride,
    matrix.first,
    norm?.epsilon ?? 0,
    cap ?? 1,
  ];
}

/** A kernel of products: `main` and what it needs beside `input_at`, `store` and the functions of the key's reader. */
export function declareProduct(
  key: ProductKey,
  tiling: readonly (string | number)[],
  { body, features }: { readonly body: string; readonly features?: readonly GPUFeatureName[] },
): Kernel {
  return declareKernel({
    name: nameOf(key, ...tiling),
    storage: productStorage(key),
    uniforms: PRODUCT_UNIFORMS,
    features,
    body: `${READERS[key.type].wgsl}${inputWgsl(key)}${storeWgsl(key)}\n${body.trim()}`,
  });
}

/** The kernel at work on a product. */
export function dispatchProduct(kernel: Kernel, product: Product, workgroups: Dispatch["workgroups"]): Dispatch {
  return { kernel, buffers: productBuffers(product), uniforms: productUniforms(product), workgroups };
}

/** `input_at(token offset, column / 4)`: four values of a row, zeros beyond its end. */
export function inputWgsl({ ragged }: ProductKey): string {
  const value = ragged
    ? "select(vec4<f32>(0.0), input[row + column], column < uniforms.columns)"
    : "input[row + column]";
  return `
fn input_at(row: u32, column: u32) -> vec4<f32> {
  return ${value};
}
`;
}

/** `store(row, token, value)`, or with an activation `store(row, token, gate, up)` with the gate's row. */
function storeWgsl({ bias, add, activation, cap }: ProductKey): string {
  const biased = (value: string, row: string) => (bias ? `${value} + bias[${row}]` : value);
  const value = activation
    ? `activate(${biased("gate", "row")}) * (${biased("up", "row + 1u")})`
    : biased("value", "row");
  const capped = cap ? `uniforms.cap * tanh(clamp((${value}) / uniforms.cap, -15.0, 15.0))` : value;
  return `${activation ? ACTIVATION_WGSL[activation] : ""}
fn store(own_row: u32, token: u32, ${activation ? "gate: f32, up: f32" : "value: f32"}) {
  if (own_row >= uniforms.rows || token >= uniforms.tokens) {
    return;
  }
  let row = uniforms.first + own_row;
  let at = uniforms.output_offset + token * uniforms.output_stride + ${activation ? "row / 2u" : "row"};
  output[at] ${add ? "+=" : "="} ${capped};
}
`;
}
