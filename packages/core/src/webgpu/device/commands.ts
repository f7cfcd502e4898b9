import type { Dispatch, GpuSlice } from "./kernel.ts";
import type { Ledger } from "./ledger.ts";
import { ALIGNMENT, roundUp, USAGE } from "./numbers.ts";
import type { Pipeline, Pipelines } from "./pipelines.ts";

/** A decode step is some hundreds of dispatches; the ones that stay the same keep their bind groups. */
const KEPT_BIND_GROUPS = 16_384;

/**
 * Dispatches written down as one compute pass of a command buffer. Their uniforms lie one after another in one buffer,
 * which is written once a pass and bound with dynamic offsets, so a step that repeats itself makes nothing new.
 */
export class Commands {
  readonly #device: GPUDevice;
  readonly #pipelines: Pipelines;
  readonly #ledger: Ledger;
  readonly #groups = new Map<string, GPUBindGroup>();
  /** The same by dispatch: those that a step makes again are found without a key. */
  #known = new WeakMap<Dispatch, GPUBindGroup>();
  readonly #ids = new WeakMap<GPUBuffer, number>();
  #bufferCount = 0;
  #uniforms: GPUBuffer | null = null;
  #staged = new ArrayBuffer(0);
  readonly #offset = new Uint32Array(1);

  constructor(device: GPUDevice, pipelines: Pipelines, ledger: Ledger) {
    this.#device = device;
    this.#pipelines = pipelines;
    this.#ledger = ledger;
  }

  /** Writes the uniforms and encodes the pass; the kernels are compiled already. */
  encode(encoder: GPUCommandEncoder, dispatches: readonly Dispatch[]): void {
    this.writeUniforms(dispatches);
    this.encodePart(encoder, dispatches, 0, dispatches.length);
  }

  /** A pass of dispatches [from, to) of those whose uniforms were written last. */
  encodePart(encoder: GPUCommandEncoder, dispatches: readonly Dispatch[], from: number, to: number): void {
    if (from === to) return;
    const pass = encoder.beginComputePass();
    this.#record(pass, dispatches, from, to);
    pass.end();
  }

  /** The same with a pass for each dispatch, whose beginning and end are written to a set of timestamps. */
  encodeTimed(encoder: GPUCommandEncoder, dispatches: readonly Dispatch[], querySet: GPUQuerySet): void {
    this.writeUniforms(dispatches);
    dispatches.forEach((_, i) => {
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
      });
      this.#record(pass, dispatches, i, i + 1);
      pass.end();
    });
  }

  #record(pass: GPUComputePassEncoder, dispatches: readonly Dispatch[], from: number, to: number): void {
    let current: Pipeline | null = null;
    for (let i = from; i < to; i++) {
      const dispatch = dispatches[i];
      const { kernel, workgroups } = dispatch;
      const pipeline = this.#pipelines.get(kernel);
      if (pipeline !== current) pass.setPipeline(pipeline.pipeline);
      current = pipeline;
      const group = this.#groupOf(dispatch, pipeline);
      this.#offset[0] = i * ALIGNMENT;
      pass.setBindGroup(0, group, this.#offset, 0, pipeline.uniformSize > 0 ? 1 : 0);
      pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
    }
  }

  /** For all dispatches of a step, before any part of it is encoded. */
  writeUniforms(dispatches: readonly Dispatch[]): void {
    if (dispatches.length === 0) return;
    const size = dispatches.length * ALIGNMENT;
    if (size > this.#staged.byteLength) {
      const grown = Math.max(64 * ALIGNMENT, 2 ** Math.ceil(Math.log2(size)));
      this.release(); // what was submitted with it still runs
      this.#ledger.add("uniforms", grown);
      this.#staged = new ArrayBuffer(grown);
      this.#uniforms = this.#device.createBuffer({
        label: "uniforms",
        size: grown,
        usage: USAGE.uniform | USAGE.copyTarget,
      });
    }
    const view = new DataView(this.#staged);
    for (let i = 0; i < dispatches.length; i++) {
      const { kernel, uniforms } = dispatches[i];
      if (uniforms.length !== kernel.uniforms.length)
        throw new Error(`${kernel.name} has ${kernel.uniforms.length} uniforms and was given ${uniforms.length}.`);
      for (let word = 0; word < uniforms.length; word++) {
        const at = i * ALIGNMENT + 4 * word;
        const type = kernel.uniforms[word];
        if (type === "f32") view.setFloat32(at, uniforms[word], true);
        else if (type === "i32") view.setInt32(at, uniforms[word], true);
        else view.setUint32(at, uniforms[word], true);
      }
    }
    this.#device.queue.writeBuffer(this.#uniforms!, 0, this.#staged, 0, size);
  }

  #groupOf(dispatch: Dispatch, pipeline: Pipeline): GPUBindGroup {
    if (!dispatch.lasting) return this.#group(pipeline, dispatch.buffers);
    let group = this.#known.get(dispatch);
    if (!group) this.#known.set(dispatch, (group = this.#group(pipeline, dispatch.buffers)));
    return group;
  }

  #group(pipeline: Pipeline, buffers: readonly GpuSlice[]): GPUBindGroup {
    let key = `${pipeline.id}`;
    for (const slice of buffers) key += `,${this.#id(slice.buffer)}:${slice.offset}:${slice.size}`;
    const known = this.#groups.get(key);
    if (known) return known;
    if (this.#groups.size >= KEPT_BIND_GROUPS) this.forget();
    const entries: GPUBindGroupEntry[] = buffers.map(({ buffer, offset, size }, binding) => ({
      binding,
      resource: { buffer, offset, size: roundUp(size, 4) },
    }));
    if (pipeline.uniformSize > 0)
      entries.push({
        binding: buffers.length,
        resource: { buffer: this.#uniforms!, offset: 0, size: pipeline.uniformSize },
      });
    const group = this.#device.createBindGroup({ layout: pipeline.layout, entries });
    this.#groups.set(key, group);
    return group;
  }

  /** Forgets bind groups: a buffer is given back, and some refer to it. */
  forget(): void {
    this.#groups.clear();
    this.#known = new WeakMap();
  }

  get keptBindGroups(): number {
    return this.#groups.size;
  }

  #id(buffer: GPUBuffer): number {
    let id = this.#ids.get(buffer);
    if (id === undefined) this.#ids.set(buffer, (id = this.#bufferCount++));
    return id;
  }

  /** Also after a failure: the uniforms' buffer may be one that the device could not make. */
  release(): void {
    this.forget();
    this.#uniforms?.destroy();
    this.#uniforms = null;
    this.#ledger.remove("uniforms", this.#staged.byteLength);
    this.#staged = new ArrayBuffer(0);
  }
}
