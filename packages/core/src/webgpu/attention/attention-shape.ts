import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import type { Capabilities, GpuSlice } from "../device/kernel.ts";
import type { Storage } from "./storage.ts";
import { ALIGNMENT } from "../device/numbers.ts";

/** What attention needs to know of a model. */
export interface AttentionShape {
  readonly queryHeads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  /** d/2: pairs of channels (i, i + d/2) that are rotated. */
  readonly pairs: number;
  readonly storage: Storage;
  /** c: scores become c · tanh(score / c). */
  readonly softCap?: number;
}

export function attentionShape(
  { queryHeads, keyHeads, headSize, rope, attentionSoftCap: softCap }: ModelConfig,
  storage: Storage,
): AttentionShape {
  return { queryHeads, keyHeads, headSize, pairs: rope.rotarySize / 2, storage, softCap };
}

/** `capped(score)`, of scores in powers of two; and what names the kernel that has it. */
export function softCapCode({ softCap }: AttentionShape): string {
  if (softCap === undefined) return "";
  return `const CAP = ${softCap * Math.LOG2E}f; // of scores
fn capped(score: f32) -> f32 { return CAP * tanh(clamp(score / CAP, -15.0, 15.0)); }
`;
}

export function capName({ softCap }: AttentionShape): string[] {
  return softCap === undefined ? [] : [`cap-${softCap}`];
}

/** The score in WGSL, capped where the model has a cap. */
export function cappedScore({ softCap }: AttentionShape, score: string): string {
  return softCap === undefined ? score : `capped(${score})`;
}

/** Rows are kept four channels at a time, zeros behind the last. */
export function quadsOf({ headSize }: AttentionShape): number {
  return Math.ceil(headSize / 4);
}

/** Bytes of a key or a value of one head. */
export function rowBytesOf(shape: AttentionShape): number {
  return quadsOf(shape) * (shape.storage === "f32" ? 16 : 8);
}

/** Query heads of one key head. */
export function groupOf({ queryHeads, keyHeads }: AttentionShape): number {
  return queryHeads / keyHeads;
}

/** What changes the speed of attention beside the adapter. */
export function attentionClass(shape: AttentionShape): string {
  return `${shape.headSize} channels, ${groupOf(shape)} ${groupOf(shape) === 1 ? "head" : "heads"} a key, ${shape.storage}`;
}

/** Rotated queries of a chunk: [rotations, T, H, D] in float32. */
export function queryBytes(shape: AttentionShape, rotations: number, count: number): number {
  return 16 * Math.max(1, rotations) * count * shape.queryHeads * quadsOf(shape);
}

/** How one layer's keys and values lie in buffers; heads are apart where one binding does not hold them all. */
export interface RingShape {
  /** Slots of a head: the capacity, and some more so that every head begins where a binding may begin. */
  readonly stride: number;
  /** Copies of the keys that there is room for, each under a rotation of its own. */
  readonly places: number;
  readonly groups: readonly {
    /** Key heads [firstHead, firstHead + heads). */
    readonly firstHead: number;
    readonly heads: number;
    /** [heads, places, stride, D] */
    readonly keyBytes: number;
    /** [heads, stride, D] */
    readonly valueBytes: number;
  }[];
}

/** A layer's ring on the device, in the order of `RingShape.groups`. */
export interface LayerRing {
  readonly stride: number;
  readonly places: number;
  readonly groups: readonly {
    readonly firstHead: number;
    readonly heads: number;
    readonly keys: GpuSlice;
    readonly values: GpuSlice;
  }[];
}

/** @throws LongctxError "capacity" when the device cannot bind the keys of even one head */
export function ringShape(
  shape: AttentionShape,
  capacity: number,
  places: number,
  { maxBinding, maxBuffer }: Pick<Capabilities, "maxBinding" | "maxBuffer">,
): RingShape {
  const rowBytes = rowBytesOf(shape);
  const step = ALIGNMENT / greatestCommonDivisor(ALIGNMENT, rowBytes);
  const stride = Math.ceil(capacity / step) * step;
  const headBytes = stride * rowBytes;
  const most = Math.min(maxBinding, maxBuffer);
  const heads = Math.min(shape.keyHeads, Math.floor(most / (places * headBytes)));
  if (heads < 1)
    throw new LongctxError(
      "capacity",
      `A cache of ${capacity} tokens takes ${places * headBytes} bytes for the keys of one head (${places} ${places === 1 ? "rotation" : "rotations"}, ${shape.storage}), but this device binds ${most} at once. Give a smaller capacity, or keep keys and values in f16.`,
    );
  const groups: RingShape["groups"][number][] = [];
  for (let firstHead = 0; firstHead < shape.keyHeads; firstHead += heads) {
    const here = Math.min(heads, shape.keyHeads - firstHead);
    groups.push({ firstHead, heads: here, keyBytes: here * places * headBytes, valueBytes: here * headBytes });
  }
  return { stride, places, groups };
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** The shape as the last words of a uniform block: kernels whose speed does not hang on it serve every model. */
export const SHAPE_UNIFORMS = {
  fields: "queryHeads: u32, keyHeads: u32, headSize: u32, quads: u32, pairs: u32",
  types: ["u32", "u32", "u32", "u32", "u32"],
  of: (shape: AttentionShape): readonly number[] => [
    shape.queryHeads,
    shape.keyHeads,
    shape.headSize,
    quadsOf(shape),
    shape.pairs,
  ],
} as const;

/** Declares attended rows [T, H, D] for a kernel that is made for one head size. */
export function attendedCode({ headSize }: AttentionShape, binding: number): string {
  return `@group(0) @binding(${binding}) var<storage, read_write> attended: array<${headSize % 4 === 0 ? "vec4f" : "f32"}>;`;
}

/** Statements that write a row's quads, `value(c)` the c-th, to row `row` of the attended ones. */
export function attendedSteps(shape: AttentionShape, row: string, value: (quad: number) => string): string {
  const quads = Array.from({ length: quadsOf(shape) }, (_, c) => c);
  if (shape.headSize % 4 === 0)
    return `  let goal = (${row}) * ${quads.length}u;\n${quads.map((c) => `  attended[goal + ${c}u] = ${value(c)};\n`).join("")}`;
  const store = (channel: number) => `  attended[goal + ${channel}u] = written${channel >> 2}[${channel % 4}];\n`;
  return `  let goal = (${row}) * ${shape.headSize}u;
${quads.map((c) => `  let written${c} = ${value(c)};\n`).join("")}${Array.from({ length: shape.headSize }, (_, i) => store(i)).join("")}`;
}
