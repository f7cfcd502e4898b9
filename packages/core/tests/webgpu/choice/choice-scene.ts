import { ChosenRows, SlotMap, type AttentionPlan, type Choice, type RingLayout } from "@longctx/core";
import { choicesOf, withChosen } from "../../../src/method/plan.ts";
import { RAW, UNROTATED } from "../../../src/positions/rotation.ts";
import { choose } from "../../../src/reference/choose.ts";
import { DenseAttention } from "../../../src/reference/dense-attention.ts";
import { AttentionMass } from "../../../src/reference/mass.ts";
import { massBand } from "../../../src/state/attention-mass.ts";
import { keyRotations } from "../../../src/state/key-copies.ts";
import { AttentionKernels } from "../../../src/webgpu/attention/attention.ts";
import { queryBytes, ringShape, type AttentionShape } from "../../../src/webgpu/attention/attention-shape.ts";
import { partBytes } from "../../../src/webgpu/attention/attention-split.ts";
import { turnTables } from "../../../src/webgpu/attention/angle-tables.ts";
import { attentionTables } from "../../../src/webgpu/attention/lane-table.ts";
import { masksChosen } from "../../../src/webgpu/attention/seen-lanes.ts";
import { Rotations } from "../../../src/webgpu/attention/work-tables.ts";
import { countMass } from "../../../src/webgpu/choice/attention-mass.ts";
import { chosenBlocks, layerChoices } from "../../../src/webgpu/choice/layer-choices.ts";
import { massLanes } from "../../../src/webgpu/choice/mass-lanes.ts";
import { chosenLists } from "../../../src/webgpu/choice/row-choices.ts";
import type { Gpu } from "../../../src/webgpu/device/gpu.ts";
import type { Capabilities, Dispatch, GpuSlice } from "../../../src/webgpu/device/kernel.ts";
import { Workspace } from "../../../src/webgpu/device/workspace.ts";
import { attentionSparse } from "../../../src/webgpu/sparse/attention-sparse.ts";
import { gateBranch } from "../../../src/webgpu/sparse/gate-branch.ts";
import { chosenRows, hasSparse, sparseTables } from "../../../src/webgpu/sparse/sparse-tables.ts";
import { LayerParts } from "../../../src/webgpu/state/layer-parts.ts";
import { StateBuffers } from "../../../src/webgpu/state/state-buffers.ts";
import { difference } from "../attention/attention-scene.ts";
import { floats } from "../device.ts";
import { noise } from "../weights/stored-weights.ts";

/** One layer's choices and attention, chunk by chunk, on a device and as they are defined. */
export interface ChoiceScene {
  readonly shape: AttentionShape;
  readonly plan: (first: number, count: number) => AttentionPlan;
  readonly chunks: readonly number[];
  /** Room for all tokens unless given. */
  readonly layout?: RingLayout;
  /** What the device is said to offer, beside what it does. */
  readonly capabilities?: Partial<Capabilities>;
  /** The buffers that the ring's heads are split into; 1 unless given. */
  readonly buffers?: number;
  /** Queries of no more rows are split over keys, and others are tiled; as the device likes unless given. */
  readonly path?: "tiled" | "split";
  /** Whether kernels get the lists as a hook gives them, in place of choices; the device has chosen them before. */
  readonly given?: boolean;
  /** Bytes of scores that are there at once. */
  readonly scoreBytes?: number;
  readonly seed?: number;
}

/** How far a device is from the definition, in units of the numbers themselves. */
export interface ChoiceOutcome {
  readonly attended: number;
  readonly mass: number;
  /** What was chosen on the device and what is defined, chunk by chunk and choice by choice. */
  readonly chosen: readonly (readonly number[])[][];
  readonly expected: readonly (readonly number[])[][];
  readonly dispatches: readonly Dispatch[];
}

const PLACES = 4;

/** Plays a scene with numbers that 16 bits hold exactly, so that lists are the same with keys of either size. */
export async function playChoices(gpu: Gpu, scene: ChoiceScene): Promise<ChoiceOutcome> {
  const { shape, chunks, buffers = 1 } = scene;
  const { queryHeads: H, keyHeads: K, headSize: D, pairs } = shape;
  const total = chunks.reduce((sum, count) => sum + count, 0);
  const layout = scene.layout ?? { capacity: total, pinned: total };
  const whole = ringShape(shape, layout.capacity, PLACES, gpu.capabilities);
  const headBytes = whole.groups[0].keyBytes / whole.groups[0].heads;
  const capabilities = { ...gpu.capabilities, ...scene.capabilities };
  const ringed = ringShape(shape, layout.capacity, PLACES, { ...capabilities, maxBinding: Math.ceil(K / buffers) * headBytes }); // prettier-ignore
  const state = new StateBuffers(gpu);
  const workspace = new Workspace(gpu);
  const ring = {
    stride: ringed.stride,
    places: PLACES,
    groups: ringed.groups.map(({ firstHead, heads, keyBytes, valueBytes }) => ({
      firstHead,
      heads,
      keys: state.take(keyBytes, "ring"),
      values: state.take(valueBytes, "ring"),
    })),
  };
  const layer = { copies: new Map(), buffers: ring, mirror: null, indexes: new Map(), mass: null, memory: null };
  const parts = new LayerParts(shape, [layer], state);
  const kernels = new AttentionKernels(shape, capabilities);
  const next = noise(scene.seed ?? 7);
  const width = (H + 2 * K) * D;
  const projected = Float32Array.from({ length: total * width }, () => Math.round(128 * next()) / 128);
  const slots = new SlotMap(layout);
  const placeOf = new Map([[RAW, 0]]);
  const mass = new AttentionMass(K);
  const outcome = { attended: 0, mass: 0, chosen: [], expected: [], dispatches: [] } as {
    attended: number;
    mass: number;
    chosen: number[][][];
    expected: number[][][];
    dispatches: Dispatch[];
  };

  for (const count of chunks) {
    const first = slots.length;
    slots.append(count);
    workspace.begin();
    const planned = scene.plan(first, count);
    const band = massBand(planned);
    const dispatches: Dispatch[] = [];
    const wanted = keyRotations(planned, true);
    for (const id of placeOf.keys()) if (!wanted.some((by) => by.id === id)) placeOf.delete(id);
    for (const by of wanted) {
      if (placeOf.has(by.id)) continue;
      const taken = new Set(placeOf.values());
      const place = Array.from({ length: PLACES }, (_, i) => i).find((one) => !taken.has(one))!;
      placeOf.set(by.id, place);
      for (const tables of turnTables(slots, { from: 0, to: first }, { from: UNROTATED, to: by, pairs }))
        dispatches.push(...kernels.turnKeys({ tables, uploaded: workspace.put(tables.bytes), ring, from: 0, to: place })); // prettier-ignore
    }
    const projectedRows = workspace.put(projected.subarray(first * width, (first + count) * width));

    /** What one plan takes to be attended to, and its choices. */
    const record = async (plan: AttentionPlan, attend: boolean) => {
      const queries = new Rotations();
      const chunk = { plan, slots, first, count, places: placeOf };
      const sparse = hasSparse(plan) ? sparseTables({ ...chunk, shape }, queries) : null;
      const lanes = band > 0 ? massLanes({ ...chunk, band }, queries) : null;
      const otherParts = sparse || lanes ? (sparse?.joint.length ?? 0) : undefined;
      const cut = kernels.cut(count, masksChosen(plan, first, count), otherParts);
      const tileRows = scene.path === "split" ? null : scene.path ? (kernels.cut(64).tileRows ?? 64) : cut.tileRows;
      const tables = attentionTables({ ...chunk, headSize: D, pairs, queries, otherParts, rawKeys: true, ...cut, tileRows }); // prettier-ignore
      const uploaded = workspace.put(tables.bytes);
      const rotated = workspace.take("queries", queryBytes(shape, tables.queryRotations, count));
      dispatches.push(
        ...kernels.rotateAndStore({ tables, uploaded, projected: projectedRows, queries: rotated, ring }),
      );
      const sparseUploaded = sparse && workspace.put(sparse.bytes);
      const scales = plan.gated?.scales && workspace.put(plan.gated.scales[0]);
      dispatches.push(
        ...layerChoices(shape, capabilities, workspace, {
          tables,
          uploaded,
          sparse: sparse && { tables: sparse, uploaded: sparseUploaded! },
          queries: rotated,
          ring,
          slots,
          places: placeOf,
          indexOf: (kind, blocks) => parts.indexOf(0, kind, blocks),
          mass: band > 0 ? parts.massOf(0, first + count).sums : null,
          scoreBytes: scene.scoreBytes,
          scalesOf: () => ({ scales: scales!, at: 0 }),
        }),
      );
      const goal = { tables, uploaded, queries: rotated, ring };
      if (!attend) return { tables, sparse, attended: null };
      const attended = workspace.take("attended", 4 * count * H * D);
      const all = workspace.take("parts", kernels.partBytes(tables));
      const sparsely = (to: GpuSlice, where: "joint" | "gated") =>
        attentionSparse(
          shape,
          capabilities,
          { ...goal, sparse: sparse!, sparseUploaded: sparseUploaded!, layout, chosen: chosenLists(workspace, sparse!), parts: to }, // prettier-ignore
          where,
          where === "gated" && scales ? { scales, layer: 0 } : undefined,
        );
      const others = sparse ? sparsely(all, "joint") : [];
      dispatches.push(...kernels.attend({ ...goal, parts: all, attended }, others));
      if (lanes) {
        const counted = parts.massOf(0, first + count);
        counted.counted = first + count;
        const totals = workspace.take("totals", 4 * count * H);
        dispatches.push(...countMass(shape, capabilities, { ...goal, lanes, laneWords: workspace.put(lanes.words), parts: all, totals, mass: counted.sums })); // prettier-ignore
      }
      if (plan.gated) {
        const partCount = sparse!.gated!.length;
        const found = workspace.take("found", partBytes(shape, Math.max(1, partCount * count)));
        const gates = workspace.put(plan.gated.gates[0].map((gate) => 1 / (1 + Math.exp(-gate))));
        dispatches.push(...sparsely(found, "gated"));
        dispatches.push(gateBranch(shape, capabilities, { rows: count, partCount, parts: found, gates, layer: 0, attended })); // prettier-ignore
      }
      return { tables, sparse, attended };
    };

    const rows = (tokens: readonly number[], firstHead: number, heads: number) =>
      Float64Array.from(
        tokens.flatMap((token) => {
          const at = token * width + firstHead * D;
          return Array.from(projected.subarray(at, at + heads * D));
        }),
      );
    const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
    const asked = { layer: 0, first, queries: rows(range(first, first + count), 0, H), mass, keys: (from: number, to: number) => rows(range(from, to), H, K) }; // prettier-ignore
    const defined = new Map(choicesOf(planned).map((choice) => [choice.id, choose(choice, shape, asked)]));

    const chosen = await record(planned, !scene.given);
    await gpu.run(dispatches);
    const words = async (slice: GpuSlice) => new Uint32Array((await gpu.read(slice)).slice().buffer);
    const blocks = chosen.tables.chosen.length > 0 ? await words(chosenBlocks(workspace, chosen.tables)) : null;
    const lists = chosen.sparse ? await words(chosenLists(workspace, chosen.sparse)) : null;
    let at = 0;
    const own = new Map<string, ChosenRows | Uint32Array>();
    for (const { choice } of chosen.tables.chosen) own.set(choice.id, blocks!.subarray(at, (at += choice.count)));
    for (const of of chosen.sparse?.rowLists ?? []) own.set(of.choice.id, chosenRows(of, lists!, first));
    outcome.chosen.push([...own.values()].flatMap(listed));
    outcome.expected.push([...own.keys()].flatMap((id) => listed(defined.get(id)!)));

    const plan = withChosen(planned, ({ id }: Choice) => defined.get(id)!);
    let { attended } = chosen;
    if (scene.given) {
      dispatches.length = 0;
      ({ attended } = await record(plan, true));
      await gpu.run(dispatches);
    }
    outcome.dispatches.push(...dispatches);
    const tokens = slots.runs(0, slots.length).flatMap(({ from, to, token }) => range(token, token + to - from));
    const expected = attendedOracle(shape, plan, asked, tokens, rows, band);
    outcome.attended = worse(outcome.attended, difference(await floats(gpu, { ...attended!, size: 4 * expected.length }), expected)); // prettier-ignore
    if (band > 0) {
      const counted = await floats(gpu, parts.massOf(0, first + count).sums);
      outcome.mass = worse(outcome.mass, difference(counted.subarray(0, mass.sums.length), mass.sums));
    }
  }
  workspace.release();
  state.dispose();
  return outcome;
}

/** NaN stays. */
function worse(a: number, b: number): number {
  return Number.isNaN(a) || a > b ? a : b;
}

function listed(chosen: ChosenRows | ArrayLike<number>): number[][] {
  if (!(chosen instanceof ChosenRows)) return [Array.from(chosen)];
  return Array.from({ length: chosen.count * chosen.heads }, (_, i) =>
    Array.from(chosen.list(Math.floor(i / chosen.heads), i % chosen.heads)),
  );
}

/** What a plan whose choices are made attends to, [T, H, D]; counts attention masses below `band`. */
function attendedOracle(
  shape: AttentionShape,
  plan: AttentionPlan,
  { first, queries, mass }: { readonly first: number; readonly queries: Float64Array; readonly mass: AttentionMass },
  tokens: readonly number[],
  rows: (tokens: readonly number[], firstHead: number, heads: number) => Float64Array,
  band: number,
): Float64Array {
  const { queryHeads: H, keyHeads: K, headSize: D } = shape;
  const heads = { queryHeads: H, keyHeads: K, headSize: D, attentionSoftCap: shape.softCap };
  const [keys, values] = [rows(tokens, H, K), rows(tokens, H + K, K)];
  const attend = (softmax: DenseAttention, counts: boolean) => {
    const out = new Float64Array(queries.length);
    for (let t = 0; t * H * D < queries.length; t++)
      softmax.row(first + t, queries.slice(t * H * D, (t + 1) * H * D)).forEach((seen, h) => {
        const keyHead = Math.floor((h * K) / H);
        seen.tokens.forEach((n, j) => {
          const distance = first + t - tokens[n];
          if (counts && distance >= 0 && distance < band) mass.add(tokens[n], keyHead, seen.probabilities[j]);
          for (let d = 0; d < D; d++)
            out[(t * H + h) * D + d] += seen.probabilities[j] * values[(n * K + keyHead) * D + d];
        });
      });
    return out;
  };
  const local = attend(new DenseAttention(heads, plan, tokens, keys), true);
  if (!plan.gated) return local;
  const { segments, gates, scales } = plan.gated;
  const branch = { segments, temperature: plan.temperature, scales: scales?.[0] };
  const found = attend(new DenseAttention(heads, branch, tokens, keys), false);
  return local.map((x, i) => {
    const gate = 1 / (1 + Math.exp(-gates[0][Math.floor(i / D) % H]));
    return gate * found[i] + (1 - gate) * x;
  });
}
