import type { MemoryBranch } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { memorySteps } from "../../state/memory-steps.ts";
import type { SlotMap } from "../../state/slots.ts";
import { kernels, type Kernels } from "../wasm/kernels.ts";
import { SharedMemory, type Block } from "../wasm/shared-memory.ts";
import type { CacheBuffer } from "./cache-buffer.ts";

type HeadShape = Pick<ModelConfig, "queryHeads" | "keyHeads" | "headSize">;

/** Rows that are copied to the kernels at once. */
const ROWS_AT_ONCE = 64;
/** The kernels keep the state of threads here, which memories do not use. */
const RESERVED_BYTES = 512;

/** The kernels that read and write compressive memories, and the WebAssembly memory in which the memories of all sequences lie. */
export class MemoryKernels {
  readonly shape: HeadShape;
  readonly functions: Kernels;
  readonly memory: SharedMemory = new SharedMemory(RESERVED_BYTES);
  /** Rows of q, k and v side by side, [64, (H + 2K) · D]; while a segment is written, keys and values [64, D] of one head. */
  readonly projected: Float32Array;
  /** [64, H, D]. */
  readonly attended: Float32Array;
  readonly gates: Float32Array;
  /** What a segment adds: M [K, D, D], then z [K, D]. */
  readonly added: Float32Array;
  readonly scratch: number;

  constructor(shape: HeadShape) {
    const { queryHeads, keyHeads, headSize } = shape;
    this.shape = shape;
    this.functions = kernels(this.memory.memory);
    this.projected = this.#floats(ROWS_AT_ONCE * (queryHeads + 2 * keyHeads) * headSize);
    this.attended = this.#floats(ROWS_AT_ONCE * queryHeads * headSize);
    this.gates = this.#floats(queryHeads);
    this.added = this.#floats(this.size);
    this.scratch = this.#floats(4 * headSize).byteOffset;
  }

  /** Floats of M and z of all key heads. */
  get size(): number {
    const { keyHeads, headSize } = this.shape;
    return keyHeads * headSize * (headSize + 1);
  }

  #floats(size: number): Float32Array {
    return this.memory.floats(this.memory.allocate(4 * size), size);
  }
}

/** The rows of a layer that a memory is written from: keys without rotation, and values. */
export interface RingRows {
  readonly slots: SlotMap;
  readonly keys: CacheBuffer;
  readonly values: CacheBuffer;
}

/** A chunk behind the softmax of a layer. */
export interface AttendedChunk {
  /** Text index of the first row. */
  readonly first: number;
  readonly count: number;
  /** q, k and v of each row side by side, without rotation, [T, (H + 2K) · D]. */
  readonly projected: Float32Array;
  /** [T, H, D], changed in place; null where nobody reads the layer's output and only due segments are written. */
  readonly attended: Float32Array | null;
}

/** The compressive memory of one layer of a sequence: M [K, D, D] and z [K, D] in float32, allocated when it is first written. */
export class CompressiveMemory {
  readonly #kernels: MemoryKernels;
  #block: Block | null = null;
  /** Segments of the text that were written, and the tokens of each. */
  written = 0;
  segment = 0;

  constructor(memoryKernels: MemoryKernels) {
    this.#kernels = memoryKernels;
  }

  get bytes(): number {
    return this.#block?.bytes ?? 0;
  }

  /** M, then z; allocated zeros where there is none yet. */
  get floats(): Float32Array {
    const { memory, size } = this.#kernels;
    const fresh = this.#block === null;
    this.#block ??= memory.allocate(4 * size);
    const floats = memory.floats(this.#block, size);
    return fresh ? floats.fill(0) : floats;
  }

  /** Writes the segments of text that are due, and mixes into `attended` what the queries read; `gates` [H] before the sigmoid. */
  pass(branch: MemoryBranch, gates: ArrayLike<number>, chunk: AttendedChunk, rows: RingRows): void {
    for (const step of memorySteps(branch, this.written, chunk.first, chunk.count)) {
      for (let segment = step.write.from; segment < step.write.to; segment++) this.#write(branch, segment, rows);
      if (chunk.attended) this.#read(gates, chunk, step.rows, chunk.attended);
    }
  }

  #read(
    gates: ArrayLike<number>,
    { projected }: AttendedChunk,
    { from, to }: { readonly from: number; readonly to: number },
    attended: Float32Array,
  ): void {
    const at = this.#kernels;
    const { queryHeads, keyHeads, headSize } = at.shape;
    const stride = (queryHeads + 2 * keyHeads) * headSize;
    const width = queryHeads * headSize;
    for (let head = 0; head < queryHeads; head++) at.gates[head] = 1 / (1 + Math.exp(-gates[head]));
    if (!this.#block) return scaleHeads(attended.subarray(from * width, to * width), at.gates, headSize);
    const { address } = this.#block;
    const sums = address + 4 * keyHeads * headSize * headSize;
    for (let row = from; row < to; row += ROWS_AT_ONCE) {
      const count = Math.min(ROWS_AT_ONCE, to - row);
      const output = attended.subarray(row * width, (row + count) * width);
      at.projected.set(projected.subarray(row * stride, (row + count) * stride));
      at.attended.set(output);
      const [queries, mixed, gate] = [at.projected, at.attended, at.gates].map(({ byteOffset }) => byteOffset);
      const group = queryHeads / keyHeads;
      at.functions.readMemory(
        queries,
        stride,
        gate,
        address,
        sums,
        mixed,
        at.scratch,
        count,
        queryHeads,
        group,
        headSize,
      );
      output.set(at.attended.subarray(0, count * width));
    }
  }

  #write({ segment: size, update }: MemoryBranch, segment: number, { slots, keys, values }: RingRows): void {
    const { functions, shape, projected, added, scratch } = this.#kernels;
    const { keyHeads, headSize } = shape;
    const [from, to] = [segment * size, (segment + 1) * size];
    const runs = slots.runs(from, to);
    if (runs.reduce((sum, run) => sum + run.to - run.from, 0) !== size)
      throw new Error(
        `Tokens ${from} to ${to - 1} are due to be written to a memory, but the ring no longer holds them.`,
      );
    const floats = this.floats;
    const zOffset = 4 * keyHeads * headSize * headSize;
    const [keyRows, valueRows] = [0, ROWS_AT_ONCE * headSize].map((at) => projected.subarray(at));
    added.fill(0);
    for (let head = 0; head < keyHeads; head++) {
      const [m, z] = [4 * head * headSize * headSize, zOffset + 4 * head * headSize];
      for (const run of runs) {
        for (let slot = run.from; slot < run.to; slot += ROWS_AT_ONCE) {
          const end = Math.min(slot + ROWS_AT_ONCE, run.to);
          keyRows.set(keys.read(head, slot, end));
          valueRows.set(values.read(head, slot, end));
          functions.writeMemory(
            keyRows.byteOffset,
            valueRows.byteOffset,
            floats.byteOffset + m,
            floats.byteOffset + z,
            added.byteOffset + m,
            added.byteOffset + z,
            scratch,
            end - slot,
            headSize,
            update === "delta",
          );
        }
      }
    }
    functions.addTo(floats.byteOffset, added.byteOffset, floats.length);
    this.written = segment + 1;
    this.segment = size;
  }

  fork(): CompressiveMemory {
    const copy = new CompressiveMemory(this.#kernels);
    copy.written = this.written;
    copy.segment = this.segment;
    if (this.#block) copy.floats.set(this.floats);
    return copy;
  }

  /** Forgets all segments. */
  clear(): void {
    this.release();
    this.written = 0;
  }

  release(): void {
    if (this.#block) this.#kernels.memory.release(this.#block);
    this.#block = null;
  }
}

/** Each head's D floats times 1 − gate: what a memory without anything in it leaves of the softmax. */
function scaleHeads(attended: Float32Array, gates: Float32Array, headSize: number): void {
  for (let i = 0; i < attended.length; i++) attended[i] *= 1 - gates[Math.floor(i / headSize) % gates.length];
}
