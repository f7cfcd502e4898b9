import type { ModelSource } from "../weights/model-source.ts";
import { hasChoices, needsRawKeys } from "../../method/plan.ts";
import type { Angles, Rotation } from "../../positions/rotation.ts";
import { massBand } from "../../state/attention-mass.ts";
import { keyRotations } from "../../state/key-copies.ts";
import { attentionGraph } from "./attention-graph.ts";
import { bindFound, bindLayer } from "./bindings.ts";
import { ChunkAngles, prepareChunk, type PreparedChunk } from "./chunk.ts";
import { ChunkChoices } from "./chunk-choices.ts";
import type { AskingChunk } from "../choice/asking.ts";
import { choose, choosesFromCache } from "../choice/choose.ts";
import { apart } from "../choice/found.ts";
import type { Found } from "../choice/list-attention.ts";
import { addMasses, splitByBand } from "../choice/masses.ts";
import { readTokens } from "../state/cold-reads.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { CpuLayerView, PerPlan, type Passage } from "../state/passage.ts";
import type { KeyCopies } from "../state/key-copies.ts";
import { storeChunk } from "../state/store-chunk.ts";
import type { LogitHead } from "./logit-head.ts";
import { floats, integers, ProgramCache, Scratch, type Feeds } from "./runtime.ts";
import { stagesGraph } from "./stages.ts";

/** Attention graphs kept: they hold no weights, and differ by the shape of a plan, not by lengths. */
const KEPT_ATTENTIONS = 64;

/** Computes a chunk layer by layer, so that hooks can look between two layers and change the plan or the attention's output. */
export class SteppedDecoder {
  readonly #source: ModelSource;
  readonly #copies: KeyCopies;
  readonly #head: LogitHead;
  readonly #stages: ProgramCache;
  readonly #attentions: ProgramCache;
  readonly #choices: ChunkChoices;
  readonly #streams = [new Scratch(), new Scratch()] as const;
  readonly #projected = new Scratch();
  readonly #normed = new Scratch();
  readonly #attended = new Scratch();

  constructor(source: ModelSource, threads: number, copies: KeyCopies, head: LogitHead) {
    this.#source = source;
    this.#copies = copies;
    this.#head = head;
    this.#stages = new ProgramCache(1, threads);
    this.#attentions = new ProgramCache(KEPT_ATTENTIONS, threads);
    this.#choices = new ChunkChoices(source.config, threads);
  }

  async run({ state, request, first, count, hidden, logits, logitRows }: Passage): Promise<void> {
    const { config } = this.#source;
    const { layerCount, hiddenSize, queryHeads, keyHeads, headSize } = config;
    const { hooks, rawKeys = false, stopAfter = layerCount } = request;
    const kept = new PerPlan<PreparedChunk>();
    const angles = new ChunkAngles(first, count);
    const turned = new Map<string, Angles | null>();
    const width = queryHeads * headSize;
    const projected = this.#projected.take(count * (queryHeads + 2 * keyHeads) * headSize);
    const attended = this.#attended.take(count * width);
    let [stream, next] = this.#streams.map((scratch) => scratch.take(count * hiddenSize)) as [
      Float32Array,
      Float32Array,
    ];
    await this.#stage(0, count, hidden, attended, stream, projected);
    for (let layer = 0; layer < layerCount; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      const last = layer === layerCount - 1;
      const view = hook && new CpuLayerView(config, state, layer, first, count, projected);
      hook?.hidden?.(layer, stream);
      const given = request.plan(layer);
      const band = massBand(given);
      // The last layer that is computed writes its keys and values; attention is computed where logits, hooks or masses need it.
      const stops = layer === stopAfter;
      const attend = band > 0 || (!stops && (!last || logitRows > 0 || hook !== undefined));
      const chunk = { first, count, projected };
      const raw = rawKeys || needsRawKeys(given) || state.layers[layer].cold !== null;
      const chooses = (attend || hook !== undefined) && hasChoices(given);
      const store = (rotations: readonly Rotation[]) => {
        this.#copies.ensure(state, layer, rotations, first);
        storeChunk(state, layer, rotations, chunk, turned);
      };
      if (chooses && choosesFromCache(given, first)) store(keyRotations(given, raw));
      const { chooser } = this.#choices;
      const chosen = chooses
        ? await choose(given, { state, layer, copies: this.#copies, chooser }, chunk, "lists")
        : given;
      const plan = (view && (await hook.queries?.(view, chosen))) ?? chosen;
      const { slots, load } = readTokens(state, layer, attend ? plan : null, first, count);
      const { shared, found } = apart(plan);
      const chosenFrom = shared === plan && !hasChoices(given) ? [] : [given, plan].flatMap((one) => keyRotations(one));
      const options = { rawKeys: raw, chosenFrom, attend, found: attend && found.length > 0, masses: band > 0 };
      const make = () => prepareChunk(splitByBand(shared, band), slots, angles, options);
      // Only plans that other layers have too are kept with their masks.
      const prepared = attend && shared === given ? kept.get(shared, slots, make) : make();
      const rotations = prepared.keyRotations.map(([, by]) => by);
      if (attend && shared !== plan) store(rotations);
      else this.#copies.ensure(state, layer, rotations, first);
      load();
      const own = attend ? this.#choices.attend(found, plan, state, layer, chunk) : [];
      await this.#attend(state, layer, prepared, chunk, own, attended, band);
      if (stops) return;
      if (attend) this.#choices.mixGated(plan, state, layer, chunk, attended);
      if (plan.memory)
        state.passMemory(layer, plan.memory, { first, count, projected, attended: attend ? attended : null });
      if (view && hook.attended) {
        const changed = hook.attended(view, attended);
        if (changed !== attended) attended.set(changed);
      }
      if (last) break;
      await this.#stage(layer + 1, count, stream, attended, next, projected);
      [stream, next] = [next, stream];
    }
    if (logitRows === 0) return;
    const of = (data: Float32Array, size: number) => data.subarray((count - logitRows) * size, count * size);
    const normed = this.#normed.take(logitRows * hiddenSize);
    const rest = next.subarray(0, logitRows * hiddenSize);
    await this.#stage(layerCount, logitRows, of(stream, hiddenSize), of(attended, width), rest, normed);
    await this.#head.run(normed, logits, logitRows);
  }

  async #attend(
    state: CpuState,
    layer: number,
    prepared: PreparedChunk,
    { first, count, projected }: AskingChunk,
    found: readonly Found[],
    attended: Float32Array,
    band: number,
  ): Promise<void> {
    const { config } = this.#source;
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
    bindLayer(config, state, layer, 0, prepared, first, count, feeds, outputs);
    const masses = bindFound(config, prepared, found, count, feeds, outputs);
    const program = await this.#attentions.get(prepared.key, () => attentionGraph(config, prepared.shape));
    await program.run(feeds, outputs);
    if (band === 0) return;
    const { mass } = state.layers[layer];
    mass.extend(first + count);
    for (const { tile, head, sums } of masses) addMasses(mass, tile.lanes, head, sums, band);
  }

  async #stage(
    index: number,
    rows: number,
    hidden: Float32Array,
    attended: Float32Array,
    stream: Float32Array,
    projected: Float32Array,
  ): Promise<void> {
    const { hiddenSize, queryHeads, headSize } = this.#source.config;
    const program = await this.#stages.get("stages", () => stagesGraph(this.#source));
    await program.run(
      {
        hidden: floats(hidden, 1, rows, hiddenSize),
        attended: floats(attended, 1, rows, queryHeads * headSize),
        stage: integers([index]),
      },
      { stream: floats(stream, 1, rows, hiddenSize), projected: floats(projected, 1, rows, projected.length / rows) },
    );
  }

  async release(): Promise<void> {
    await Promise.all([this.#stages.release(), this.#attentions.release(), this.#choices.release()]);
  }
}
