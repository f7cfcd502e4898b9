import type { AttentionPlan } from "../../method/plan.ts";
import type { SlotMap } from "../../state/slots.ts";
import { attentionTables, type AttentionTables } from "../attention/lane-table.ts";
import { masksChosen } from "../attention/seen-lanes.ts";
import { Rotations } from "../attention/work-tables.ts";
import { massLanes, type MassLanes } from "../choice/mass-lanes.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { hasSparse, sparseTables, type SparseTables } from "../sparse/sparse-tables.ts";
import type { GpuState } from "../state/gpu-state.ts";
import type { Decoder } from "./decoder.ts";

/** What is done with a layer's plan beside storing the chunk's keys and values. */
export interface PassOptions {
  /** false when nobody reads the layer's output: keys and values are stored, and memories written, all the same. */
  readonly attend: boolean;
  /** Keep a copy of the keys without rotation. */
  readonly rawKeys: boolean;
  /** The distances below which attention masses are counted; 0 where no choice needs them. */
  readonly massBand: number;
}

/** The tables of a plan, uploaded. */
export interface UploadedTables {
  readonly tables: AttentionTables;
  readonly slice: GpuSlice;
  /** Null where all queries and heads see the same lists. */
  readonly sparse: { readonly tables: SparseTables; readonly uploaded: GpuSlice } | null;
  /** Null where no attention mass is counted. */
  readonly mass: { readonly lanes: MassLanes; readonly words: GpuSlice } | null;
}

/** The tables of a chunk's plans, each made once for all layers that have it and keep their keys in the same slots and places. */
export class PlanTables {
  readonly #decoder: Decoder;
  readonly #state: GpuState;
  readonly #first: number;
  readonly #count: number;
  readonly #made = new Map<AttentionPlan, MadeTables[]>();

  /** The chunk's queries are those of the `count` tokens from `first` on. */
  constructor(decoder: Decoder, state: GpuState, first: number, count: number) {
    this.#decoder = decoder;
    this.#state = state;
    this.#first = first;
    this.#count = count;
  }

  of(layer: number, plan: AttentionPlan, options: PassOptions): UploadedTables {
    const slots = this.#state.rings.at(layer);
    const places = this.placesOf(layer);
    const key = JSON.stringify([options, ...places]);
    const known = this.#made.get(plan) ?? [];
    this.#made.set(plan, known);
    const found = known.find((candidate) => candidate.slots === slots && candidate.key === key);
    if (found) return found.uploaded;
    const uploaded = this.#upload(plan, slots, places, options);
    known.push({ slots, key, uploaded });
    return uploaded;
  }

  /** Which place of a layer's ring holds the keys under a rotation, by its id. */
  placesOf(layer: number): ReadonlyMap<string, number> {
    return new Map([...this.#state.layers[layer].copies].map(([id, { place }]) => [id, place] as const));
  }

  #upload(
    plan: AttentionPlan,
    slots: SlotMap,
    places: ReadonlyMap<string, number>,
    { attend, rawKeys, massBand }: PassOptions,
  ): UploadedTables {
    const { attention, model, config, workspace } = this.#decoder;
    const chunk = { plan, slots, first: this.#first, count: this.#count, places };
    const queries = new Rotations();
    const sparse = attend && hasSparse(plan) ? sparseTables({ ...chunk, shape: attention.shape }, queries) : null;
    const lanes = massBand > 0 ? massLanes({ ...chunk, band: massBand }, queries) : null;
    const otherParts = sparse || lanes ? (sparse?.joint.length ?? 0) : undefined;
    const tables = attentionTables({
      ...chunk,
      headSize: config.headSize,
      scale: config.attentionScale,
      pairs: model.config.rope.rotarySize / 2,
      queries,
      otherParts,
      rawKeys,
      attend,
      ...attention.cut(this.#count, masksChosen(plan, this.#first, this.#count), otherParts),
    });
    return {
      tables,
      slice: workspace.put(tables.bytes),
      sparse: sparse && { tables: sparse, uploaded: workspace.put(sparse.bytes) },
      mass: lanes && { lanes, words: workspace.put(lanes.words) },
    };
  }
}

/** Tables of one plan for layers whose slots and places of keys are the same. */
interface MadeTables {
  readonly slots: SlotMap;
  readonly key: string;
  readonly uploaded: UploadedTables;
}
