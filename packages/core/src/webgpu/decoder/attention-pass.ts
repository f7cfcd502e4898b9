import { needsRawKeys, type AttentionPlan } from "../../method/plan.ts";
import { RAW } from "../../positions/rotation.ts";
import { queryBytes } from "../attention/attention-shape.ts";
import { partBytes } from "../attention/attention-split.ts";
import { keyRotations } from "../../state/key-copies.ts";
import type { AttentionTables } from "../attention/lane-table.ts";
import { countMass } from "../choice/attention-mass.ts";
import { layerChoices } from "../choice/layer-choices.ts";
import { chosenLists } from "../choice/row-choices.ts";
import type { Dispatch, GpuSlice } from "../device/kernel.ts";
import { layerMemoryPass } from "../memory/layer-memory.ts";
import { attentionSparse } from "../sparse/attention-sparse.ts";
import { gateBranch } from "../sparse/gate-branch.ts";
import type { GpuState } from "../state/gpu-state.ts";
import { ensureCopies, Turns } from "../state/key-places.ts";
import type { Decoder } from "./decoder.ts";
import { UploadedFactors } from "./head-factors.ts";
import { noted, putBack, type LayerBefore } from "./layer-undo.ts";
import { PlanTables, type PassOptions, type UploadedTables } from "./plan-tables.ts";

/** Where a layer's attention is written, and the queries it is computed from. */
interface Goal {
  readonly queries: GpuSlice;
  readonly attended: GpuSlice;
}

/** Attention of one chunk as dispatches, layer by layer: keys stored, choices made, the softmax, the other branch, the memory. */
export class AttentionPass {
  readonly #decoder: Decoder;
  readonly #state: GpuState;
  readonly #first: number;
  readonly #count: number;
  readonly #turns: Turns;
  readonly #tables: PlanTables;
  readonly #factors: UploadedFactors;
  /** Layers as they were before dispatches that change them were recorded, until those are submitted. */
  readonly #before = new Map<number, LayerBefore>();

  constructor(decoder: Decoder, state: GpuState, count: number) {
    this.#decoder = decoder;
    this.#state = state;
    this.#first = state.rings.length;
    this.#count = count;
    this.#turns = new Turns(decoder.workspace, decoder.attention.shape.pairs, this.#first);
    this.#tables = new PlanTables(decoder, state, this.#first, count);
    this.#factors = new UploadedFactors(decoder.workspace);
  }

  /** What was recorded has been submitted: there is no way back before it. */
  submitted(): void {
    this.#before.clear();
  }

  /** After a failure: what was recorded and not submitted did not happen. */
  abandon(): void {
    for (const [layer, before] of this.#before) {
      const now = this.#state.layers[layer];
      if (now) putBack(now, before);
    }
  }

  #remember(layer: number): void {
    if (!this.#before.has(layer)) this.#before.set(layer, noted(this.#state.layers[layer]));
  }

  /** Turns old keys into the copies that a plan reads and a layer lacks. A promise where room has to be made. */
  copies(layer: number, plan: AttentionPlan, rawKeys: boolean): Dispatch[] | Promise<Dispatch[]> {
    const wanted = keyRotations(plan, rawKeys);
    const { copies } = this.#state.layers[layer];
    if (wanted.some(({ id }) => !copies.has(id)) || copies.size !== wanted.length) this.#remember(layer);
    return ensureCopies(this.#decoder.attention, this.#turns, this.#state, layer, wanted, this.#first);
  }

  /** Stores the layer's keys and values and makes its choices. */
  choose(
    layer: number,
    plan: AttentionPlan,
    options: PassOptions,
  ): Pick<UploadedTables, "tables" | "sparse"> & { readonly dispatches: Dispatch[] } {
    const prepared = this.#tables.of(layer, plan, options);
    return { ...prepared, dispatches: this.#stored(layer, plan, prepared) };
  }

  #stored(layer: number, plan: AttentionPlan, { tables, slice: uploaded, sparse, mass }: UploadedTables): Dispatch[] {
    const { attention, stages, workspace, weights, gpu, config } = this.#decoder;
    const { buffers: ring } = this.#state.layers[layer];
    if (needsRawKeys(plan) || mass) this.#remember(layer);
    const queries = this.#queries(tables);
    const dispatches = attention.rotateAndStore({
      tables,
      uploaded,
      projected: stages.projected(this.#count),
      queries,
      ring,
      norms: weights.layers[layer].headNorms ?? undefined,
    });
    if (tables.chosen.length > 0 || (sparse && sparse.tables.rowLists.length > 0))
      dispatches.push(
        ...layerChoices(attention.shape, gpu.capabilities, workspace, {
          tables,
          uploaded,
          sparse,
          queries,
          ring,
          slots: this.#state.rings.at(layer),
          places: this.#tables.placesOf(layer),
          indexOf: (kind, blocks) => this.#state.parts.indexOf(layer, kind, blocks),
          mass: mass && this.#massOf(layer).sums,
          scalesOf: ({ scales }) => ({ scales: this.#factors.scales(scales!), at: layer * config.queryHeads }),
        }),
      );
    return dispatches;
  }

  /** All of a layer's attention, into `stages.attended`. */
  attend(layer: number, plan: AttentionPlan, options: PassOptions): Dispatch[] {
    const { attention, stages, workspace } = this.#decoder;
    const prepared = this.#tables.of(layer, plan, options);
    const { tables, slice: uploaded, sparse, mass } = prepared;
    const dispatches = this.#stored(layer, plan, prepared);
    const { buffers: ring } = this.#state.layers[layer];
    const goal = options.attend ? { queries: this.#queries(tables), attended: stages.attended(this.#count) } : null;
    if (goal) {
      const parts = workspace.take("attention parts", attention.partBytes(tables));
      const others = sparse ? this.#sparse(layer, plan, prepared, parts, "joint") : [];
      dispatches.push(...attention.attend({ tables, uploaded, ring, parts, ...goal }, others));
      if (mass) dispatches.push(...this.#countMass(layer, prepared, parts));
      if (plan.gated) dispatches.push(...this.#pastGate(layer, plan, prepared, goal));
    }
    if (plan.memory) dispatches.push(...this.#pastMemory(layer, plan, prepared, goal));
    return dispatches;
  }

  /** The parts of rows that see tokens of their own. */
  #sparse(
    layer: number,
    { gated }: AttentionPlan,
    { tables, slice: uploaded, sparse }: UploadedTables,
    parts: GpuSlice,
    goal: "joint" | "gated",
  ): Dispatch[] {
    const { attention, workspace, gpu } = this.#decoder;
    const scales = goal === "gated" ? gated?.scales : undefined;
    const work = {
      tables,
      uploaded,
      sparse: sparse!.tables,
      sparseUploaded: sparse!.uploaded,
      queries: this.#queries(tables),
      ring: this.#state.layers[layer].buffers,
      layout: this.#state.rings.at(layer).layout,
      chosen: chosenLists(workspace, sparse!.tables),
      parts,
    };
    const cosine = scales && { scales: this.#factors.scales(scales), layer };
    return attentionSparse(attention.shape, gpu.capabilities, work, goal, cosine);
  }

  #pastGate(layer: number, plan: AttentionPlan, prepared: UploadedTables, { attended }: Goal): Dispatch[] {
    const { attention, workspace, gpu } = this.#decoder;
    const { shape } = attention;
    const partCount = prepared.sparse!.tables.gated!.length;
    const parts = workspace.take("parts of the gated branch", partBytes(shape, partCount * this.#count));
    const gates = this.#factors.gates(plan.gated!.gates);
    return [
      ...this.#sparse(layer, plan, prepared, parts, "gated"),
      gateBranch(shape, gpu.capabilities, { rows: this.#count, partCount, parts, gates, layer, attended }),
    ];
  }

  #massOf(layer: number) {
    return this.#state.parts.massOf(layer, this.#first + this.#count);
  }

  #countMass(layer: number, { tables, slice: uploaded, mass }: UploadedTables, parts: GpuSlice): Dispatch[] {
    const { attention, workspace, gpu } = this.#decoder;
    const { shape } = attention;
    const counted = this.#massOf(layer);
    counted.counted = this.#first + this.#count;
    return countMass(shape, gpu.capabilities, {
      tables,
      uploaded,
      lanes: mass!.lanes,
      laneWords: mass!.words,
      queries: this.#queries(tables),
      ring: this.#state.layers[layer].buffers,
      parts,
      totals: workspace.take("row totals", 4 * this.#count * shape.queryHeads),
      mass: counted.sums,
    });
  }

  #pastMemory(
    layer: number,
    { memory: branch }: AttentionPlan,
    { tables, slice: uploaded }: UploadedTables,
    goal: Goal | null,
  ): Dispatch[] {
    const { attention, workspace, gpu, config } = this.#decoder;
    const { buffers: ring, copies } = this.#state.layers[layer];
    return layerMemoryPass(attention.shape, gpu.capabilities, workspace, {
      branch: branch!,
      memory: this.#state.parts.memoryOf(layer),
      layer,
      channels: config.headSize,
      ring,
      rawPlace: copies.get(RAW)!.place,
      slots: this.#state.rings.at(layer),
      tables,
      uploaded,
      goal: goal && { ...goal, gates: this.#factors.gates(branch!.gates) },
    });
  }

  #queries({ queryRotations }: AttentionTables): GpuSlice {
    const { workspace, attention } = this.#decoder;
    return workspace.take("queries", queryBytes(attention.shape, queryRotations, this.#count));
  }
}
