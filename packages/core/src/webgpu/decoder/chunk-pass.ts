import type { ForwardRequest, LayerHooks } from "../../backend/backend.ts";
import { checkExact } from "../../backend/forward-checks.ts";
import { LongctxError } from "../../common/errors.ts";
import { hasChoices, needsRawKeys, withChosen, type AttentionPlan, type ChosenRows } from "../../method/plan.ts";
import type { Draw } from "../../text/sampling.ts";
import { massBand } from "../../state/attention-mass.ts";
import { keyRotations, recognise } from "../../state/key-copies.ts";
import { chosenBlocks } from "../choice/layer-choices.ts";
import { chosenLists } from "../choice/row-choices.ts";
import { part, type Copy } from "../device/copies.ts";
import type { Dispatch, GpuSlice } from "../device/kernel.ts";
import { argmax, argmaxScratch } from "../sampling/argmax.ts";
import { sample, seenBits } from "../sampling/sample.ts";
import { chosenRows } from "../sparse/sparse-tables.ts";
import { GpuLayerView, mirrorOf, splitProjection } from "../state/gpu-layer-view.ts";
import type { GpuState } from "../state/gpu-state.ts";
import { withoutPadding, withPadding } from "../weights/aligned.ts";
import { AttentionPass } from "./attention-pass.ts";
import type { Decoder } from "./decoder.ts";

/** Logits that are read at once. */
const LOGIT_BYTES = 2 ** 26;

/** One chunk's way through the decoder. Dispatches are recorded until somebody on the host has to see something. */
export class ChunkPass {
  readonly #decoder: Decoder;
  readonly #state: GpuState;
  readonly #request: ForwardRequest;
  readonly #first: number;
  readonly #count: number;
  readonly #attention: AttentionPass;
  #recorded: Dispatch[] = [];
  #started = false;

  constructor(decoder: Decoder, state: GpuState, request: ForwardRequest) {
    this.#decoder = decoder;
    this.#state = state;
    this.#request = request;
    this.#first = state.rings.length;
    this.#count = request.ids.length;
    this.#attention = new AttentionPass(decoder, state, this.#count);
  }

  /** Whether the state was touched: a failure before leaves it as it was. */
  get started(): boolean {
    return this.#started;
  }

  /** After a failure: what was recorded and not submitted did not happen. */
  abandon(): void {
    this.#attention.abandon();
  }

  /** Logits [logitRows, V]. */
  async run(): Promise<Float32Array> {
    await this.#layers(this.#request.logitRows);
    return this.#logits();
  }

  /** The token drawn from the logits after the last token, or `NO_TOKEN`; they stay in the state. */
  async sample(draw: Draw): Promise<number> {
    const { stages, workspace, config } = this.#decoder;
    const { vocabSize: size } = config;
    await this.#layers(1);
    this.#record(stages.head(this.#count, { first: this.#count - 1, count: 1 }));
    const logits = stages.logits(1);
    const result = workspace.take("token", 4);
    this.#record(this.#choice(draw, { logits, size, result }));
    const copies = [{ from: logits, to: this.#state.lastLogits(size), size: 4 * size }];
    const [bytes] = await this.#submit([part(result, 0, 4)], copies);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  #choice(draw: Draw, ends: { logits: GpuSlice; size: number; result: GpuSlice }): Dispatch[] {
    const { workspace } = this.#decoder;
    const { temperature, repetitionPenalty, text } = draw;
    const penalised = repetitionPenalty !== 1;
    if (temperature === 0 && !penalised)
      return argmax({ ...ends, scratch: workspace.take("argmax", argmaxScratch(ends.size)) });
    const seen = penalised ? workspace.put(seenBits(text, ends.size)) : undefined;
    return [sample({ ...ends, draw, seen }, this.#decoder.gpu.capabilities)];
  }

  /**
   * All layers up to the one that the pass stops after; of the last one only what the logits of the last `logitRows` rows
   * are made from.
   */
  async #layers(logitRows: number): Promise<void> {
    const { stages, workspace, config } = this.#decoder;
    const { ids, hooks } = this.#request;
    const [state, count] = [this.#state, this.#count];
    workspace.begin();
    const growing = state.reserve(this.#first + count);
    if (growing) await growing;
    this.#started = true;
    state.rings.append(count);
    this.#record(stages.embed(workspace.put(Uint32Array.from(ids)), count));
    for (let layer = 0; layer < config.layerCount; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      const last = layer === config.layerCount - 1;
      if (hook?.hidden) hook.hidden(layer, await this.#hidden());
      this.#record(stages.project(layer, count));
      const given = this.#request.plan(layer);
      checkExact(given, "webgpu");
      const rawKeys = Boolean(this.#request.rawKeys) || needsRawKeys(given);
      const view = hook && (hook.queries || hook.attended) && (await this.#view(layer, given, rawKeys));
      const plan = view && hook.queries ? await this.#replan(hook.queries, view, given, rawKeys) : given;
      const turned = this.#attention.copies(layer, plan, rawKeys);
      this.#record(turned instanceof Promise ? await turned : turned);
      const counted = massBand(given);
      const stops = layer === this.#request.stopAfter;
      if (stops && counted === 0) {
        this.#record(this.#attention.choose(layer, plan, { attend: false, rawKeys, massBand: 0 }).dispatches);
        return;
      }
      // Nobody reads the last layer's output where no logits are asked for; its keys and values are kept all the same.
      const attend = !last || logitRows > 0 || hook?.attended !== undefined || counted > 0;
      this.#record(this.#attention.attend(layer, plan, { attend, rawKeys, massBand: counted }));
      if (stops) return;
      if (view && hook.attended) await this.#replaceAttended(hook.attended, view);
      const rows = last ? { first: count - logitRows, count: logitRows } : { first: 0, count };
      if (rows.count > 0) this.#record(stages.feedForward(layer, count, rows));
    }
  }

  #record(dispatches: readonly Dispatch[]): void {
    for (const dispatch of dispatches) this.#recorded.push(dispatch);
  }

  /** Submits what was recorded, and reads. */
  async #flush(...reads: GpuSlice[]): Promise<Float32Array[]> {
    const bytes = await this.#submit(reads);
    return bytes.map(({ buffer, byteOffset, byteLength }) => new Float32Array(buffer, byteOffset, byteLength / 4));
  }

  async #submit(reads: readonly GpuSlice[], copies?: readonly Copy[]): Promise<Uint8Array[]> {
    const { workspace, gpu } = this.#decoder;
    for (const pending of [workspace.settled(), this.#state.settled()]) if (pending) await pending;
    const recorded = this.#recorded;
    this.#recorded = [];
    const bytes = await gpu.runAndRead(recorded, reads, copies);
    this.#attention.submitted();
    return bytes;
  }

  async #hidden(): Promise<Float32Array> {
    const { config, model, stages } = this.#decoder;
    const axis = { groups: 1, from: config.hiddenSize, to: model.config.hiddenSize };
    const [hidden] = await this.#flush(part(stages.stream(this.#count), 0, 4 * this.#count * axis.to));
    return withoutPadding(hidden, axis);
  }

  async #view(layer: number, plan: AttentionPlan, rawKeys: boolean): Promise<GpuLayerView> {
    const { config, model, stages } = this.#decoder;
    const { queryHeads, keyHeads } = config;
    const axis = { groups: queryHeads + 2 * keyHeads, from: config.headSize, to: model.config.headSize };
    const size = 4 * this.#count * axis.groups * axis.to;
    const [projected] = await this.#flush(part(stages.projected(this.#count), 0, size));
    const gains = this.#decoder.headGains?.[layer] ?? null;
    const { queries, keys, values } = splitProjection(config, withoutPadding(projected, axis), gains);
    recognise(this.#state.layers[layer].copies, keyRotations(plan, rawKeys));
    const mirror = await mirrorOf(this.#state, layer, config, this.#first);
    mirror.add(keys, values);
    return new GpuLayerView(config, this.#state.rings.at(layer), mirror, {
      layer,
      first: this.#first,
      count: this.#count,
      queries,
    });
  }

  /** What a hook makes of a layer's plan; it is shown lists in place of choices, so chosen blocks are read back first. */
  async #replan(
    hook: NonNullable<LayerHooks["queries"]>,
    view: GpuLayerView,
    given: AttentionPlan,
    rawKeys: boolean,
  ): Promise<AttentionPlan> {
    const listed = hasChoices(given) ? await this.#listed(view.layer, given, rawKeys) : given;
    return (await hook(view, listed)) ?? listed;
  }

  async #listed(layer: number, plan: AttentionPlan, rawKeys: boolean): Promise<AttentionPlan> {
    this.#record(await this.#attention.copies(layer, plan, rawKeys));
    const { workspace } = this.#decoder;
    const options = { attend: true, rawKeys, massBand: massBand(plan) };
    const { dispatches, tables, sparse } = this.#attention.choose(layer, plan, options);
    this.#record(dispatches);
    const taken = new Map<string, Uint32Array | ChosenRows>();
    const { rowLists, entries } = sparse?.tables ?? { rowLists: [], entries: 0 };
    const reads = [
      ...(tables.chosen.length > 0 ? [chosenBlocks(workspace, tables)] : []),
      ...(entries > 0 ? [chosenLists(workspace, { entries })] : []),
    ];
    const read = reads.length > 0 ? await this.#submit(reads) : [];
    const words = read.map(({ buffer, byteOffset, byteLength }) => new Uint32Array(buffer, byteOffset, byteLength / 4));
    let at = 0;
    for (const { choice } of tables.chosen) taken.set(choice.id, words[0].subarray(at, (at += choice.count)));
    const lists = entries > 0 ? words[words.length - 1] : new Uint32Array();
    for (const rows of rowLists) taken.set(rows.choice.id, chosenRows(rows, lists, this.#first));
    return withChosen(plan, ({ id }) => taken.get(id) ?? []);
  }

  async #replaceAttended(replace: NonNullable<LayerHooks["attended"]>, view: GpuLayerView): Promise<void> {
    const { config, model, stages, gpu } = this.#decoder;
    const axis = { groups: config.queryHeads, from: config.headSize, to: model.config.headSize };
    const slice = part(stages.attended(this.#count), 0, 4 * this.#count * axis.groups * axis.to);
    const [read] = await this.#flush(slice);
    const attended = withoutPadding(read, axis);
    const changed = replace(view, attended);
    if (changed.length !== attended.length)
      throw new LongctxError(
        "argument",
        `A hook replaced the attention of layer ${view.layer}, ${attended.length} numbers, by ${changed.length}; answer with as many, [T, H, D].`,
      );
    gpu.write(slice, withPadding(changed, axis));
  }

  /** The rest of the chunk; logits some rows at a time, where all of them would not fit. */
  async #logits(): Promise<Float32Array> {
    const { stages, gpu, config } = this.#decoder;
    const { logitRows } = this.#request;
    const rowBytes = 4 * config.vocabSize;
    if (logitRows === 0) {
      await this.#flush();
      return new Float32Array(0);
    }
    const most = Math.max(1, Math.floor(Math.min(LOGIT_BYTES, gpu.capabilities.maxBinding) / rowBytes));
    const logits = new Float32Array(logitRows * config.vocabSize);
    for (let row = 0; row < logitRows; row += most) {
      const count = Math.min(most, logitRows - row);
      this.#record(stages.head(this.#count, { first: this.#count - logitRows + row, count }));
      const [some] = await this.#flush(part(stages.logits(count), 0, count * rowBytes));
      if (count === logitRows) return some;
      logits.set(some, row * config.vocabSize);
    }
    return logits;
  }
}
