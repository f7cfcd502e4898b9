import type { LayerHooks } from "../../backend/backend.ts";
import type { LayerView } from "../../method/method.ts";
import { hasChoices, needsRawKeys, type AttentionPlan } from "../../method/plan.ts";
import type { Angles, Rotation } from "../../positions/rotation.ts";
import { massBand } from "../../state/attention-mass.ts";
import { keyRotations } from "../../state/key-copies.ts";
import { choose, choosesApart, choosesFromCache } from "../choice/choose.ts";
import { apart } from "../choice/found.ts";
import type { Found } from "../choice/list-attention.ts";
import { addMasses, splitByBand } from "../choice/masses.ts";
import { unionsOf } from "../choice/unions.ts";
import { readTokens } from "../state/cold-reads.ts";
import type { CpuState } from "../state/cpu-state.ts";
import type { KeyCopies } from "../state/key-copies.ts";
import { PerPlan } from "../state/passage.ts";
import { storeChunk } from "../state/store-chunk.ts";
import type { ModelConfig } from "../../model/config.ts";
import { attentionGraph } from "./attention-graph.ts";
import { bindFound, bindLayer, GatheredLists } from "./bindings.ts";
import { ChunkAngles, prepareChunk, tileRows, type PreparedChunk } from "./chunk.ts";
import { ChunkChoices } from "./chunk-choices.ts";
import { floats, integers, ProgramCache, type Feeds } from "./runtime.ts";

/** Attention graphs kept: they hold no weights, and differ by the shape of a plan, not by lengths. */
const KEPT_ATTENTIONS = 64;

/** A chunk whose layers are attended to one after another. */
export class AttendedChunk {
  readonly state: CpuState;
  /** Text index of the chunk's first token. */
  readonly first: number;
  readonly count: number;
  /** q, k and v of the layer at hand side by side, [T, (H + 2K) · D]. */
  readonly projected: Float32Array;
  /** The attention's output, [T, H, D]. */
  readonly attended: Float32Array;
  readonly prepared = new PerPlan<PreparedChunk>();
  readonly angles: ChunkAngles;
  readonly turned = new Map<string, Angles | null>();

  constructor(state: CpuState, first: number, count: number, projected: Float32Array, attended: Float32Array) {
    this.state = state;
    this.first = first;
    this.count = count;
    this.projected = projected;
    this.attended = attended;
    this.angles = new ChunkAngles(first, count);
  }
}

/** What a layer attends to, and who wants to know. */
interface Asked {
  readonly given: AttentionPlan;
  /** false where the layer only writes its keys and values. */
  readonly attend: boolean;
  readonly rawKeys: boolean;
  readonly hook: LayerHooks | undefined;
  readonly view: LayerView | undefined;
}

/** Attention of a chunk in one layer after another: choices, lanes as a graph of onnxruntime, and lists of single queries. */
export class LayerAttention {
  readonly #config: ModelConfig;
  readonly #copies: KeyCopies;
  readonly #programs: ProgramCache;
  readonly #choices: ChunkChoices;
  readonly #lists = new GatheredLists();

  constructor(config: ModelConfig, threads: number, copies: KeyCopies) {
    this.#config = config;
    this.#copies = copies;
    this.#programs = new ProgramCache(KEPT_ATTENTIONS, threads);
    this.#choices = new ChunkChoices(config, threads);
  }

  /** Writes the chunk's keys and values, and attends. Returns the layer's plan with what was chosen, as a hook left it. */
  async run(
    chunk: AttendedChunk,
    layer: number,
    { given, attend, hook, view, ...asked }: Asked,
  ): Promise<AttentionPlan> {
    const { state, first, count } = chunk;
    const rawKeys = asked.rawKeys || needsRawKeys(given) || state.layers[layer].cold !== null;
    const chooses = hasChoices(given) && (attend || hook !== undefined);
    if (chooses && choosesFromCache(given, first)) this.#store(chunk, layer, keyRotations(given, rawKeys));
    const at = { state, layer, copies: this.#copies, chooser: this.#choices.chooser };
    const chosen = chooses ? await choose(given, at, chunk, "lists") : given;
    const plan = (view && (await hook?.queries?.(view, chosen))) ?? chosen;
    const { slots, load } = readTokens(state, layer, attend ? plan : null, first, count);
    const { shared, found } = apart(plan);
    const { own, lists } =
      attend && found.length > 0 ? unionsOf(found, tileRows(first, count), this.#config) : NO_LISTS;
    const band = massBand(given);
    const options = {
      rawKeys,
      chosenFrom: shared === plan && !hasChoices(given) ? [] : [given, plan].flatMap((one) => keyRotations(one)),
      attend,
      found: lists.length > 0,
      own,
      masses: band > 0,
    };
    const make = () => prepareChunk(splitByBand(shared, band), slots, chunk.angles, options);
    // Only plans that other layers have too are kept with their masks: those without choices, or with lists alone.
    const alike = plan === chosen && choosesApart(given) && lists.length === found.length;
    const kept = attend && (shared === given || alike);
    const prepared = kept ? chunk.prepared.get(given, slots, make) : make();
    const rotations = prepared.keyRotations.map(([, by]) => by);
    if (attend && shared !== plan) this.#store(chunk, layer, rotations);
    else this.#copies.ensure(state, layer, rotations, first);
    load();
    await this.#attend(chunk, layer, prepared, this.#choices.attend(lists, plan, { state, layer, slots }, chunk), band);
    if (attend) this.#choices.mixGated(plan, { state, layer, slots }, chunk, chunk.attended);
    return plan;
  }

  /** Writes the chunk's keys and values before anything attends, since choices and lists may name its tokens. */
  #store(chunk: AttendedChunk, layer: number, rotations: readonly Rotation[]): void {
    this.#copies.ensure(chunk.state, layer, rotations, chunk.first);
    storeChunk(chunk.state, layer, rotations, chunk, chunk.turned);
  }

  async #attend(
    { state, first, count, projected, attended }: AttendedChunk,
    layer: number,
    prepared: PreparedChunk,
    found: readonly Found[],
    band: number,
  ): Promise<void> {
    const config = this.#config;
    const feeds: Feeds = {
      ...prepared.feeds(0),
      projected: floats(projected, 1, count, projected.length / count),
      positions: integers(
        Array.from({ length: count }, (_, i) => i),
        1,
        count,
      ),
    };
    const outputs: Feeds =
      prepared.tiles.length > 0 ? { attended: floats(attended, count, config.queryHeads, config.headSize) } : {};
    bindLayer(config, state, layer, 0, prepared, first, count, feeds, outputs, this.#lists);
    const masses = bindFound(config, prepared, found, count, feeds, outputs);
    const program = await this.#programs.get(prepared.key, () => attentionGraph(config, prepared.shape));
    await program.run(feeds, outputs);
    if (band === 0 || prepared.tiles.length === 0) return;
    const { mass } = state.layers[layer];
    mass.extend(first + count);
    for (const { tile, head, sums } of masses) addMasses(mass, tile.lanes, head, sums, band);
  }

  async release(): Promise<void> {
    await Promise.all([this.#programs.release(), this.#choices.release()]);
  }
}

const NO_LISTS = { own: undefined, lists: [] };
