import type { ModelConfig } from "../../model/config.ts";
import { Weights, type WeightTensor } from "../../model/weights.ts";
import { roundUp } from "../device/numbers.ts";

/** A decoder whose sizes are multiples of 4, and how much larger it is than the one it stands for. */
export interface AlignedModel {
  /** Sizes as they are on the device; heads, vocabulary and rotary size are the model's own. */
  readonly config: ModelConfig;
  readonly weights: Weights;
  /** ε of the norms over hidden channels, and over a head's channels. */
  readonly epsilon: number;
  readonly headEpsilon: number;
}

/**
 * Kernels read four channels at a time, so a model whose sizes 4 does not divide gets channels of zeros. They change
 * nothing but the mean of an RMS norm: with n of N channels in use, √(n/N) in the gain and n/N in ε undo that.
 * Real models have even sizes and come back as they are.
 */
export function alignModel(config: ModelConfig, weights: Weights): AlignedModel {
  const { queryHeads, headSize } = config;
  const size = {
    hiddenSize: roundUp(config.hiddenSize, 4),
    feedForwardSize: roundUp(config.feedForwardSize, 4),
    headSize: (queryHeads * headSize) % 4 === 0 ? headSize : roundUp(headSize, 4),
  };
  const epsilon = (config.norm.epsilon * config.hiddenSize) / size.hiddenSize;
  const headEpsilon = (config.norm.epsilon * headSize) / size.headSize;
  const experts = config.experts && {
    ...config.experts,
    feedForwardSize: roundUp(config.experts.feedForwardSize, 4),
  };
  const names = ["hiddenSize", "feedForwardSize", "headSize"] as const;
  const same = experts?.feedForwardSize === config.experts?.feedForwardSize;
  if (same && names.every((name) => size[name] === config[name])) return { config, weights, epsilon, headEpsilon };
  const tensors = [...weights.names()].map(
    (name) => [name, aligned(name, weights.find(name)!, config, { ...size, experts })] as const,
  );
  return { config: { ...config, ...size, experts }, weights: new Weights(new Map(tensors)), epsilon, headEpsilon };
}

type Sizes = Pick<ModelConfig, "hiddenSize" | "feedForwardSize" | "headSize" | "experts">;

/** Channels of an axis: `groups` of `from`, each filled up to `to`. */
interface Axis {
  readonly groups: number;
  readonly from: number;
  readonly to: number;
}

function aligned(name: string, tensor: WeightTensor, from: ModelConfig, to: Sizes): WeightTensor {
  const part = name.replace(/^layers\.\d+\./, "");
  if (part.startsWith("method.")) return tensor;
  const axes = axesOf(part, from, to);
  const isNorm = name.endsWith("Norm");
  const shape = axes.map(({ groups, to: size }) => groups * size);
  const values = (): Float32Array<ArrayBuffer> => {
    const [rows, columns] = axes.length === 2 ? axes : [SINGLE, axes[0]];
    const all = filledUp(tensor.toFloat32(), rows, columns);
    const scale = Math.sqrt(columns.from / columns.to);
    return isNorm ? all.map((value) => value * scale) : all;
  };
  return { name: tensor.name, type: "F32", shape, toFloat32: values, bytes: () => new Uint8Array(values().buffer) };
}

const SINGLE: Axis = { groups: 1, from: 1, to: 1 };

function axesOf(part: string, from: ModelConfig, to: Sizes): Axis[] {
  const hidden = { groups: 1, from: from.hiddenSize, to: to.hiddenSize };
  const expert = /^experts\.\d+\.(.+)$/.exec(part)?.[1];
  const [short, long] = expert ? [from.experts!, to.experts!] : [from, to];
  const inner = { groups: 1, from: short.feedForwardSize, to: long.feedForwardSize };
  const heads = (groups: number) => ({ groups, from: from.headSize, to: to.headSize });
  const all = (size: number) => ({ groups: 1, from: size, to: size });
  const vocabulary = all(from.vocabSize);
  const matrices: Readonly<Record<string, readonly [Axis, Axis]>> = {
    embedding: [vocabulary, hidden],
    head: [vocabulary, hidden],
    query: [heads(from.queryHeads), hidden],
    key: [heads(from.keyHeads), hidden],
    value: [heads(from.keyHeads), hidden],
    output: [hidden, heads(from.queryHeads)],
    gate: [inner, hidden],
    up: [inner, hidden],
    down: [hidden, inner],
    router: [all(from.experts?.count ?? 0), hidden],
  };
  if (expert) return [...matrices[expert]];
  if (part === "queryNorm" || part === "keyNorm") return [heads(1)];
  if (part.endsWith(".bias")) return [matrices[part.slice(0, -".bias".length)][0]];
  return part in matrices ? [...matrices[part]] : [hidden];
}

function filledUp(values: Float32Array, rows: Axis, columns: Axis): Float32Array<ArrayBuffer> {
  const [width, newWidth] = [columns.groups * columns.from, columns.groups * columns.to];
  const all = new Float32Array(rows.groups * rows.to * newWidth);
  for (let row = 0; row < rows.groups * rows.from; row++) {
    const to = (Math.floor(row / rows.from) * rows.to + (row % rows.from)) * newWidth;
    for (let group = 0; group < columns.groups; group++) {
      const begin = row * width + group * columns.from;
      all.set(values.subarray(begin, begin + columns.from), to + group * columns.to);
    }
  }
  return all;
}

/** Heads, or rows of channels, one after another: back to their own size. */
export function withoutPadding(values: Float32Array, axis: Axis): Float32Array {
  if (axis.from === axis.to) return values;
  const count = values.length / axis.to;
  const rest = new Float32Array(count * axis.from);
  for (let i = 0; i < count; i++) rest.set(values.subarray(i * axis.to, i * axis.to + axis.from), i * axis.from);
  return rest;
}

/** The same back again. */
export function withPadding(values: Float32Array, axis: Axis): Float32Array {
  if (axis.from === axis.to) return values;
  const count = values.length / axis.from;
  const all = new Float32Array(count * axis.to);
  for (let i = 0; i < count; i++) all.set(values.subarray(i * axis.from, (i + 1) * axis.from), i * axis.to);
  return all;
}
