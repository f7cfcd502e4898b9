import { checkShared } from "../../backend/forward-checks.ts";
import { hasChoices, needsRawKeys, type AttentionPlan, type MemoryBranch } from "../../method/plan.ts";
import { RAW } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import { queryBytes } from "../attention/attention-shape.ts";
import { keyRotations } from "../../state/key-copies.ts";
import { attentionTables, type AttentionTables } from "../attention/lane-table.ts";
import { masksChosen } from "../attention/seen-lanes.ts";
import { layerChoices } from "../choice/layer-choices.ts";
import type { Dispatch, GpuSlice } from "../device/kernel.ts";
import { layerMemoryPass } from "../memory/layer-memory.ts";
import type { GpuState } from "../state/gpu-state.ts";
import { ensureCopies, Turns } from "../state/key-places.ts";
import type { GpuKeyCopy, GpuLayer } from "../state/layer-buffers.ts";
import type { Decoder } from "./decoder.ts";

/** What is done with a layer's plan beside storing the chunk's keys and values. */
export interface PassOptions {
  /** false when nobody reads the layer's output: keys and values are stored, and memories written, all the same. */
  readonly attend: boolean;
  /** Keep a copy of the keys without rotation. */
  readonly rawKeys: boolean;
}

/** The tables of a plan, uploaded. */
export interface UploadedTables {
  readonly tables: AttentionTables;
  readonly slice: GpuSlice;
}

/** Attention of one chunk as dispatches, layer by layer: keys stored, blocks chosen, the softmax, the memory. */
export class AttentionPass {
  readonly #decoder: Decoder;
  readonly #state: GpuState;
  readonly #first: number;
  readonly #count: number;
  readonly #turns: Turns;
  readonly #tables = new Map<AttentionPlan, MadeTables[]>();
  readonly #gates = new Map<MemoryBranch, GpuSlice>();
  /** Layers as they were before dispatches that change them were recorded, until those are submitted. */
  readonly #before = new Map<number, Before>();

  constructor(decoder: Decoder, state: GpuState, count: number) {
    this.#decoder = decoder;
    this.#state = state;
    this.#first = state.rings.length;
    this.#count = count;
    this.#turns = new Turns(decoder.workspace, decoder.attention.shape.pairs, this.#first);
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

  /** Stores the layer's keys and values and chooses its blocks. */
  choose(
    layer: number,
    plan: AttentionPlan,
    options: PassOptions,
  ): { dispatches: Dispatch[]; tables: AttentionTables } {
    const prepared = this.#prepared(layer, plan, options);
    return { dispatches: this.#stored(layer, plan, prepared), tables: prepared.tables };
  }

  #stored(layer: number, plan: AttentionPlan, { tables, slice: uploaded }: UploadedTables): Dispatch[] {
    const { attention, stages, workspace, weights, gpu } = this.#decoder;
    const { buffers: ring, copies } = this.#state.layers[layer];
    if (needsRawKeys(plan)) this.#remember(layer);
    const queries = this.#queries(tables);
    const dispatches = attention.rotateAndStore({
      tables,
      uploaded,
      projected: stages.projected(this.#count),
      queries,
      ring,
      norms: weights.layers[layer].headNorms ?? undefined,
    });
    if (tables.chosen.length > 0)
      dispatches.push(
        ...layerChoices(attention.shape, gpu.capabilities, workspace, {
          tables,
          uploaded,
          queries,
          ring,
          rawPlace: copies.get(RAW)!.place,
          slots: this.#state.rings.at(layer),
          indexOf: (from, size, blocks) => this.#state.indexOf(layer, from, size, blocks),
        }),
      );
    return dispatches;
  }

  /** All of a layer's attention, into `stages.attended`. */
  attend(layer: number, plan: AttentionPlan, options: PassOptions): Dispatch[] {
    const { attention, stages, workspace } = this.#decoder;
    if (hasChoices(plan)) checkShared(plan, "webgpu");
    const prepared = this.#prepared(layer, plan, options);
    const { tables, slice: uploaded } = prepared;
    const dispatches = this.#stored(layer, plan, prepared);
    const { buffers: ring } = this.#state.layers[layer];
    const goal = options.attend ? { queries: this.#queries(tables), attended: stages.attended(this.#count) } : null;
    if (goal) {
      const parts = workspace.take("attention parts", attention.partBytes(tables));
      dispatches.push(...attention.attend({ tables, uploaded, ring, parts, ...goal }));
    }
    if (plan.memory) dispatches.push(...this.#pastMemory(layer, plan.memory, prepared, goal));
    return dispatches;
  }

  #pastMemory(
    layer: number,
    branch: MemoryBranch,
    { tables, slice: uploaded }: UploadedTables,
    goal: { readonly queries: GpuSlice; readonly attended: GpuSlice } | null,
  ): Dispatch[] {
    const { attention, workspace, gpu, config } = this.#decoder;
    const { buffers: ring, copies } = this.#state.layers[layer];
    return layerMemoryPass(attention.shape, gpu.capabilities, workspace, {
      branch,
      memory: this.#state.memoryOf(layer),
      layer,
      channels: config.headSize,
      ring,
      rawPlace: copies.get(RAW)!.place,
      slots: this.#state.rings.at(layer),
      tables,
      uploaded,
      goal: goal && { ...goal, gates: this.#gatesOf(branch) },
    });
  }

  #queries({ queryRotations }: AttentionTables): GpuSlice {
    const { workspace, attention } = this.#decoder;
    return workspace.take("queries", queryBytes(attention.shape, queryRotations, this.#count));
  }

  #gatesOf(branch: MemoryBranch): GpuSlice {
    const known = this.#gates.get(branch);
    if (known) return known;
    const uploaded = this.#decoder.workspace.put(sigmoids(branch));
    this.#gates.set(branch, uploaded);
    return uploaded;
  }

  /** The tables of a plan, made once for all layers that have it and keep their keys in the same slots and places. */
  #prepared(layer: number, plan: AttentionPlan, { attend, rawKeys }: PassOptions): UploadedTables {
    const { attention, model, config, workspace } = this.#decoder;
    const slots = this.#state.rings.at(layer);
    const places = new Map([...this.#state.layers[layer].copies].map(([id, { place }]) => [id, place] as const));
    const key = JSON.stringify([attend, rawKeys, ...places]);
    const known = this.#tables.get(plan) ?? [];
    this.#tables.set(plan, known);
    const found = known.find((candidate) => candidate.slots === slots && candidate.key === key);
    if (found) return found.uploaded;
    const tables = attentionTables({
      plan,
      slots,
      first: this.#first,
      count: this.#count,
      headSize: config.headSize,
      scale: config.attentionScale,
      pairs: model.config.rope.rotarySize / 2,
      places,
      rawKeys,
      attend,
      ...attention.cut(this.#count, masksChosen(plan, this.#first, this.#count)),
    });
    const uploaded = { tables, slice: workspace.put(tables.bytes) };
    known.push({ slots, key, uploaded });
    return uploaded;
  }
}

/** Tables of one plan for layers whose slots and places of keys are the same. */
interface MadeTables {
  readonly slots: SlotMap;
  readonly key: string;
  readonly uploaded: UploadedTables;
}

/** What recorded dispatches change of a layer, as the host knows it. */
interface Before {
  readonly copies: ReadonlyMap<string, GpuKeyCopy>;
  readonly written: number;
  /** Blocks of each index whose means are computed. */
  readonly known: ReadonlyMap<string, number>;
}

function noted({ copies, memory, indexes }: GpuLayer): Before {
  return {
    copies: new Map(copies),
    written: memory?.written ?? 0,
    known: new Map([...indexes].map(([key, { known }]) => [key, known] as const)),
  };
}

function putBack({ copies, memory, indexes }: GpuLayer, before: Before): void {
  copies.clear();
  for (const [id, copy] of before.copies) copies.set(id, copy);
  if (memory) memory.written = before.written;
  for (const [key, index] of indexes) index.known = before.known.get(key) ?? 0;
}

const SIGMOIDS = new WeakMap<MemoryBranch, Float32Array>();

/** sigmoid(gate), [L, H]. */
function sigmoids(branch: MemoryBranch): Float32Array {
  const known = SIGMOIDS.get(branch);
  if (known) return known;
  const all = Float32Array.from(
    branch.gates.flatMap((gates) => [...gates]),
    (gate) => 1 / (1 + Math.exp(-gate)),
  );
  SIGMOIDS.set(branch, all);
  return all;
}
