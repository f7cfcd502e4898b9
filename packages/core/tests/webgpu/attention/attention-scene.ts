import { SlotMap, type AttentionPlan, type RingLayout } from "@longctx/core";
import { uniformFloat64 } from "../../../src/common/random.ts";
import { RAW, type Rotation, UNROTATED } from "../../../src/positions/rotation.ts";
import type { Gpu } from "../../../src/webgpu/device/gpu.ts";
import type { Capabilities, Dispatch, GpuSlice } from "../../../src/webgpu/device/kernel.ts";
import { turnTables } from "../../../src/webgpu/attention/angle-tables.ts";
import { keyRotations } from "../../../src/state/key-copies.ts";
import { attentionTables } from "../../../src/webgpu/attention/lane-table.ts";
import { AttentionKernels, type AttentionTilings } from "../../../src/webgpu/attention/attention.ts";
import {
  ringShape,
  queryBytes,
  type AttentionShape,
  type LayerRing,
} from "../../../src/webgpu/attention/attention-shape.ts";
import type { AttentionGoal } from "../../../src/webgpu/attention/attention-split.ts";
import { attentionOracle } from "../../oracles/attention.ts";
import { rotatedOracle } from "../../oracles/rotation.ts";

/** One layer's attention, chunk by chunk, on a device and as it is defined. */
export interface Scene {
  readonly shape: AttentionShape;
  readonly plan: (first: number, count: number) => AttentionPlan;
  readonly layout: RingLayout;
  readonly chunks: readonly number[];
  readonly path: "tiled" | "split" | "chosen";
  /** What the device is said to offer, beside what it does. */
  readonly capabilities?: Partial<Capabilities>;
  /** Weights [2, D] and ε of the norm of queries and keys. */
  readonly norm?: { readonly weights: Float32Array; readonly epsilon: number };
  /** In place of those that are sensible for the device. */
  readonly tilings?: AttentionTilings;
  readonly attend?: (work: AttentionGoal) => Dispatch[];
  readonly seed?: number;
  /** How tiles are cut into ranges of keys; not at all unless given. */
  readonly ranges?: { readonly wanted: number; readonly shortest: number };
}

export interface Outcome {
  /** [T, H, D] of all chunks. */
  readonly attended: Float32Array;
  readonly expected: Float64Array;
  readonly dispatches: readonly Dispatch[];
  readonly ring: LayerRing;
}

/** Room for every rotation that random plans have. */
const PLACES = 24;

export async function play(gpu: Gpu, scene: Scene): Promise<Outcome> {
  const { shape, layout, chunks, norm } = scene;
  const { queryHeads, keyHeads, headSize, pairs } = shape;
  const capabilities = { ...gpu.capabilities, ...scene.capabilities };
  const kernels = new AttentionKernels(shape, capabilities, norm?.epsilon ?? null, scene.tilings);
  const total = chunks.reduce((sum, count) => sum + count, 0);
  const width = (queryHeads + 2 * keyHeads) * headSize;
  const random = uniformFloat64(scene.seed ?? 7);
  const projected = Float32Array.from({ length: total * width }, () => 2 * random() - 1);
  const held: GpuSlice[] = [];
  const allocate = (bytes: number): GpuSlice => {
    const slice = gpu.allocate(bytes, "test");
    held.push(slice);
    return slice;
  };
  const upload = (data: ArrayBufferView): GpuSlice => {
    const slice = gpu.upload(data, "test");
    held.push(slice);
    return slice;
  };
  const { stride, places, groups } = ringShape(shape, layout.capacity, PLACES, capabilities);
  const ring: LayerRing = {
    stride,
    places,
    groups: groups.map(({ firstHead, heads, keyBytes, valueBytes }) => ({
      firstHead,
      heads,
      keys: allocate(keyBytes),
      values: allocate(valueBytes),
    })),
  };
  const norms = norm && upload(norm.weights);
  const slots = new SlotMap(layout);
  const placeOf = new Map([[RAW, 0]]);
  const attended = new Float32Array(total * queryHeads * headSize);
  const expected = new Float64Array(attended.length);
  const all: Dispatch[] = [];
  let first = 0;
  for (const count of chunks) {
    slots.append(count);
    const plan = scene.plan(first, count);
    const dispatches: Dispatch[] = [];
    const turn = (from: Rotation, to: Rotation) => {
      for (const tables of turnTables(slots, { from: 0, to: first }, { from, to, pairs }, 13))
        dispatches.push(
          ...kernels.turnKeys({ tables, uploaded: upload(tables.bytes), ring, from: 0, to: placeOf.get(to.id)! }),
        );
    };
    const wanted = keyRotations(plan, true);
    for (const id of placeOf.keys()) if (!wanted.some((by) => by.id === id)) placeOf.delete(id);
    for (const by of wanted) {
      if (placeOf.has(by.id)) continue;
      const taken = new Set(placeOf.values());
      placeOf.set(
        by.id,
        Array.from({ length: PLACES }, (_, i) => i).find((place) => !taken.has(place))!,
      );
      turn(UNROTATED, by);
    }
    const cut = kernels.cut(count);
    const tables = attentionTables({
      plan,
      slots,
      first,
      count,
      headSize,
      pairs,
      places: placeOf,
      ...cut,
      pieces: { longest: 256, shortest: 32, ...cut.pieces, wanted: 3 },
      ranges: scene.ranges,
      tileRows:
        scene.path === "chosen" ? cut.tileRows : scene.path === "split" ? null : (kernels.cut(64).tileRows ?? 64),
      rawKeys: true,
    });
    const uploaded = upload(tables.bytes);
    const queries = allocate(queryBytes(shape, tables.queryRotations, count));
    const out = upload(new Float32Array(count * queryHeads * headSize).fill(NaN));
    const work = {
      tables,
      uploaded,
      queries,
      ring,
      attended: out,
      parts: allocate(kernels.partBytes(tables)),
    };
    const rows = upload(projected.subarray(first * width, (first + count) * width));
    dispatches.push(...kernels.rotateAndStore({ ...work, projected: rows, norms }));
    dispatches.push(...(scene.attend ?? ((given) => kernels.attend(given)))(work));
    await gpu.run(dispatches);
    all.push(...dispatches);
    const size = queryHeads * headSize;
    attended.set(floatsOf(await gpu.read(out)), first * size);
    expected.set(reference(scene, projected, plan, slots, first, count), first * size);
    first += count;
  }
  for (const slice of held) gpu.free(slice);
  return { attended, expected, dispatches: all, ring };
}

export function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function reference(
  { shape, norm }: Scene,
  projected: Float32Array,
  plan: AttentionPlan,
  slots: SlotMap,
  first: number,
  count: number,
): Float64Array {
  const { queryHeads, keyHeads, headSize } = shape;
  const width = (queryHeads + 2 * keyHeads) * headSize;
  const columns = (tokens: readonly number[], firstHead: number, heads: number, weights?: number): Float64Array => {
    const rows = new Float64Array(tokens.length * heads * headSize);
    tokens.forEach((token, row) => {
      for (let head = 0; head < heads; head++) {
        const at = token * width + (firstHead + head) * headSize;
        const normed =
          norm && weights !== undefined
            ? { weights: norm.weights.subarray(weights * headSize, (weights + 1) * headSize), epsilon: norm.epsilon }
            : undefined;
        rows.set(rotatedOracle(projected.subarray(at, at + headSize), [], normed), (row * heads + head) * headSize);
      }
    });
    return rows;
  };
  const tokens = slots
    .runs(0, slots.length)
    .flatMap(({ from, to, token }) => Array.from({ length: to - from }, (_, i) => token + i));
  const asked = Array.from({ length: count }, (_, t) => first + t);
  return attentionOracle(shape, {
    plan,
    first,
    queries: columns(asked, 0, queryHeads, 0),
    tokens,
    keys: columns(tokens, queryHeads, keyHeads, 1),
    values: columns(tokens, queryHeads + keyHeads, keyHeads),
  });
}

/** The largest difference; NaN wherever one is. */
export function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = a.length === b.length ? 0 : NaN;
  for (let i = 0; i < a.length; i++) {
    const here = Math.abs(a[i] - b[i]);
    if (!(here <= largest)) largest = here;
    if (Number.isNaN(largest)) return NaN;
  }
  return largest;
}

/** `total` tokens in chunks of `size`, the last one as large as what is left. */
export function chunksOf(total: number, size: number): number[] {
  return Array.from({ length: Math.ceil(total / size) }, (_, i) => Math.min(size, total - i * size));
}

/** What every WebGPU device offers at least. */
export const LEAST: Capabilities = {
  f16: false,
  subgroups: null,
  timestamps: false,
  maxWorkgroupsPerDimension: 65_535,
  maxInvocations: 256,
  maxWorkgroupMemory: 16_384,
  maxBinding: 2 ** 27,
  maxBuffer: 2 ** 28,
  software: false,
};
