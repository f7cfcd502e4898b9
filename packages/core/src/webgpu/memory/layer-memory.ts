import type { MemoryBranch } from "../../method/plan.ts";
import { memorySteps } from "../../state/memory-steps.ts";
import type { SlotMap } from "../../state/slots.ts";
import { groupOf, quadsOf, SHAPE_UNIFORMS, type AttentionShape, type LayerRing } from "../attention/attention-shape.ts";
import { sectionOf, type AttentionTables } from "../attention/lane-table.ts";
import { RING_UNIFORMS } from "../attention/token-slots.ts";
import { memoised } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice } from "../device/kernel.ts";
import { inSteps } from "../device/submissions.ts";
import type { Workspace } from "../device/workspace.ts";
import type { GpuMemory } from "../state/layer-buffers.ts";
import { lookupRows, memoryReadKernel, memoryResidualKernel, memoryWriteKernel, writeTiles } from "./memory-kernels.ts";

const readKernelOf = memoised(memoryReadKernel);
const residualKernelOf = memoised(memoryResidualKernel);
const writeKernelOf = memoised(memoryWriteKernel);

/** What the memory of one layer reads and writes while a chunk passes through it. */
export interface LayerMemoryPass {
  readonly branch: MemoryBranch;
  readonly memory: GpuMemory;
  readonly layer: number;
  /** Channels of a head of the model; the shape may have more, to be a multiple of four. */
  readonly channels: number;
  readonly ring: LayerRing;
  /** Where in the ring the keys without rotation are. */
  readonly rawPlace: number;
  readonly slots: SlotMap;
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  /** Null where nobody wants the layer's output: segments are written, and nothing is read. */
  readonly goal: {
    /** As `rotate-and-store` left them. */
    readonly queries: GpuSlice;
    /** [T, H, D] */
    readonly attended: GpuSlice;
    /** sigmoid(gate), [L, H] in float32. */
    readonly gates: GpuSlice;
  } | null;
}

/**
 * The dispatches that take a chunk past a layer's memory: segments are written when the first token after them is read, and
 * each row of the chunk reads what was written before its own segment. Counts the segments that are written then.
 */
export function layerMemoryPass(
  shape: AttentionShape,
  capabilities: Capabilities,
  workspace: Workspace,
  pass: LayerMemoryPass,
): Dispatch[] {
  const { branch, memory, tables } = pass;
  const dispatches: Dispatch[] = [];
  for (const { write, rows } of memorySteps(branch, memory.written, tables.first, tables.count)) {
    for (let segment = write.from; segment < write.to; segment++) {
      dispatches.push(...writeSegment(shape, capabilities, workspace, pass, segment));
      memory.written = segment + 1;
      memory.segment = branch.segment;
    }
    dispatches.push(...readRows(shape, capabilities, pass, rows));
  }
  return dispatches;
}

function writeSegment(
  shape: AttentionShape,
  capabilities: Capabilities,
  workspace: Workspace,
  { branch, memory, channels, ring, rawPlace, slots }: LayerMemoryPass,
  segment: number,
): Dispatch[] {
  const { update, segment: count } = branch;
  const [from, to] = [segment * count, (segment + 1) * count];
  if (slots.runs(from, to).reduce((sum, run) => sum + run.to - run.from, 0) !== count)
    throw new Error(
      `Tokens ${from} to ${to - 1} are due to be written to a memory, but the ring no longer holds them.`,
    );
  const { matrix, sums } = memory;
  const uniforms = (group: LayerRing["groups"][number], units: number) => [
    segment * count,
    count,
    ring.places,
    rawPlace,
    ring.stride,
    group.firstHead,
    group.heads,
    channels,
    units,
    ...RING_UNIFORMS.of(slots.layout),
    ...SHAPE_UNIFORMS.of(shape),
  ];
  const work = count * shape.headSize ** 2; // of a head
  const write = (values: GpuSlice | null) =>
    ring.groups.map((group): Dispatch => {
      const units = writeTiles(shape) * group.heads;
      return {
        kernel: writeKernelOf(update, shape.storage),
        buffers: [group.keys, values ?? group.values, matrix, sums],
        uniforms: uniforms(group, units),
        workgroups: spread(units, capabilities),
        work: work * group.heads,
      };
    });
  if (update === "linear") return write(null);
  const residual = workspace.take("memory residual", 16 * count * shape.keyHeads * quadsOf(shape));
  const residuals = ring.groups.map((group): Dispatch => {
    const units = Math.ceil(count / lookupRows(shape)) * group.heads;
    return {
      kernel: residualKernelOf({ headSize: shape.headSize, storage: shape.storage }),
      buffers: [group.keys, group.values, matrix, sums, residual],
      uniforms: uniforms(group, units),
      workgroups: spread(units, capabilities),
      work: work * group.heads,
    };
  });
  return [...residuals, ...write(residual)];
}

/** One dispatch for the rows [from, to) of the chunk, or some where they are much work. */
function readRows(
  shape: AttentionShape,
  capabilities: Capabilities,
  { memory, layer, channels, tables, uploaded, goal }: LayerMemoryPass,
  { from, to }: { readonly from: number; readonly to: number },
): Dispatch[] {
  if (!goal) return [];
  const { queries, attended, gates } = goal;
  const rowWork = shape.queryHeads * shape.headSize ** 2;
  return inSteps(to - from, (to - from) * rowWork).map((step): Dispatch => {
    const count = step.to - step.from;
    const units = Math.ceil(count / lookupRows(shape)) * shape.queryHeads;
    return {
      kernel: readKernelOf({ headSize: shape.headSize }),
      buffers: [queries, sectionOf(tables, uploaded, "rows"), memory.matrix, memory.sums, gates, attended],
      uniforms: [
        tables.count,
        tables.rawRotation!,
        from + step.from,
        count,
        layer * shape.keyHeads * groupOf(shape),
        channels,
        units,
        ...SHAPE_UNIFORMS.of(shape),
      ],
      workgroups: spread(units, capabilities),
      work: tables.count > 1 ? count * rowWork : undefined,
    };
  });
}
