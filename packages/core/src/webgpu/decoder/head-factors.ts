import type { GpuSlice } from "../device/kernel.ts";
import type { Workspace } from "../device/workspace.ts";

/** Numbers of layers and query heads, [L][H], that all plans of a session share. */
type HeadFactors = readonly Float32Array[];

const SIGMOIDS = new WeakMap<HeadFactors, Float32Array>();
const FLAT = new WeakMap<HeadFactors, Float32Array>();

/** Gates and scales of a chunk's plans on the device, [L, H], each uploaded once a chunk. */
export class UploadedFactors {
  readonly #workspace: Workspace;
  readonly #uploaded = new Map<Float32Array, GpuSlice>();

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  /** sigmoid(gate) of each gate. */
  gates(gates: HeadFactors): GpuSlice {
    return this.#upload(flat(gates, SIGMOIDS, (gate) => 1 / (1 + Math.exp(-gate))));
  }

  scales(scales: HeadFactors): GpuSlice {
    return this.#upload(flat(scales, FLAT, (scale) => scale));
  }

  #upload(values: Float32Array): GpuSlice {
    const slice = this.#uploaded.get(values) ?? this.#workspace.put(values);
    this.#uploaded.set(values, slice);
    return slice;
  }
}

/** One row for each layer, [L, H]; layers without the branch may have no factors, and zeros stand for them. */
function flat(
  factors: HeadFactors,
  known: WeakMap<HeadFactors, Float32Array>,
  of: (factor: number) => number,
): Float32Array {
  const made = known.get(factors);
  if (made) return made;
  const heads = Math.max(...factors.map((layer) => layer.length));
  const all = new Float32Array(factors.length * heads);
  factors.forEach((layer, i) => all.set(layer.map(of), i * heads));
  known.set(factors, all);
  return all;
}
