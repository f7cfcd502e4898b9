import type { ForwardRequest, LayerHooks } from "../../backend/backend.ts";
import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import type { AttentionPlan } from "../../method/plan.ts";
import type { Rotation } from "../../positions/rotation.ts";
import type { Draw } from "../../text/sampling.ts";
import { withoutPadding, withPadding, type AlignedModel } from "../weights/aligned.ts";
import type { GpuWeights } from "../weights/decoder-weights.ts";
import type { DecoderStages } from "./decoder-stages.ts";
import type { GpuCache } from "../state/gpu-cache.ts";
import type { GpuKeyCopy } from "../state/layer-buffers.ts";
import { GpuLayerView, mirrorOf, splitProjection } from "../state/gpu-layer-view.ts";
import { part, type Copy } from "../device/copies.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Dispatch, GpuSlice } from "../device/kernel.ts";
import { ensureCopies, recognise, Turns } from "../state/key-places.ts";
import { argmax, argmaxScratch } from "../sampling/argmax.ts";
import { queryBytes } from "../attention/attention-shape.ts";
import type { AttentionKernels } from "../attention/attention.ts";
import { sample, seenBits } from "../sampling/sample.ts";
import { attentionTables, keyRotations, type AttentionTables } from "../attention/lane-table.ts";
import type { Workspace } from "../device/workspace.ts";

/** A model on a device, with all it needs to read. */
export interface Decoder {
  readonly gpu: Gpu;
  /** The model's own description; `model` has the sizes on the device. */
  readonly config: ModelConfig;
  readonly model: AlignedModel;
  readonly weights: GpuWeights;
  /** Of each layer the gains of q's norm and k's, [2, D], on the host for hooks; null where the model has none. */
  readonly headGains: readonly Float32Array[] | null;
  readonly workspace: Workspace;
  readonly stages: DecoderStages;
  readonly attention: AttentionKernels;
}

/** Logits that are read at once. */
const LOGIT_BYTES = 2 ** 26;

/** One chunk's way through the decoder. Dispatches are recorded until somebody on the host has to see something. */
export class ChunkPass {
  readonly #decoder: Decoder;
  readonly #cache: GpuCache;
  readonly #request: ForwardRequest;
  readonly #first: number;
  readonly #count: number;
  readonly #turns: Turns;
  readonly #tables = new Map<AttentionPlan, { readonly places: string; readonly uploaded: UploadedTables }[]>();
  #recorded: Dispatch[] = [];
  /** Copies of keys by layer, as they were before the dispatches recorded that change them. */
  #before = new Map<number, ReadonlyMap<string, GpuKeyCopy>>();
  #started = false;

  constructor(decoder: Decoder, cache: GpuCache, request: ForwardRequest) {
    this.#decoder = decoder;
    this.#cache = cache;
    this.#request = request;
    this.#first = cache.slots.length;
    this.#count = request.ids.length;
    this.#turns = new Turns(decoder.workspace, cache.slots, decoder.attention.shape.pairs, this.#first);
  }

  /** Whether the cache was touched: a failure before leaves it as it was. */
  get started(): boolean {
    return this.#started;
  }

  /** After a failure: what was recorded and not submitted did not happen. */
  abandon(): void {
    for (const [layer, before] of this.#before) {
      const copies = this.#cache.layers[layer]?.copies;
      copies?.clear();
      for (const [id, copy] of before) copies?.set(id, copy);
    }
  }

  /** Logits [logitRows, V]. */
  async run(): Promise<Float32Array> {
    await this.#layers(this.#request.logitRows);
    return this.#logits();
  }

  /** The token drawn from the logits after the last token, or `NO_TOKEN`; they stay in the cache. */
  async sample(draw: Draw): Promise<number> {
    const { stages, workspace, config } = this.#decoder;
    const { vocabSize: size } = config;
    await this.#layers(1);
    this.#record(stages.head(this.#count, { first: this.#count - 1, count: 1 }));
    const logits = stages.logits(1);
    const result = workspace.take("token", 4);
    this.#record(this.#choice(draw, { logits, size, result }));
    const copies = [{ from: logits, to: this.#cache.lastLogits(size), size: 4 * size }];
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

  /** All layers; of the last one only what the logits of the last `logitRows` rows are made from. */
  async #layers(logitRows: number): Promise<void> {
    const { stages, workspace, config } = this.#decoder;
    const { ids, hooks } = this.#request;
    const [cache, count] = [this.#cache, this.#count];
    workspace.begin();
    const growing = cache.reserve(this.#first + count);
    if (growing) await growing;
    this.#started = true;
    cache.slots.append(count);
    this.#record(stages.embed(workspace.put(Uint32Array.from(ids)), count));
    for (let layer = 0; layer < config.layerCount; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      const last = layer === config.layerCount - 1;
      if (hook?.hidden) hook.hidden(layer, await this.#hidden());
      this.#record(stages.project(layer, count));
      const given = this.#request.plan(layer);
      const view = hook && (hook.queries || hook.attended) && (await this.#view(layer, given));
      const plan = (view && (await hook.queries?.(view, given))) ?? given;
      const turned = this.#turned(layer, keyRotations(plan, this.#request.rawKeys));
      this.#record(turned instanceof Promise ? await turned : turned);
      // Nobody reads the last layer's output where no logits are asked for; its keys and values are kept all the same.
      this.#attend(layer, plan, !last || logitRows > 0 || hook?.attended !== undefined);
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
    for (const pending of [workspace.settled(), this.#cache.settled()]) if (pending) await pending;
    const recorded = this.#recorded;
    this.#recorded = [];
    const bytes = await gpu.runAndRead(recorded, reads, copies);
    this.#before.clear();
    return bytes;
  }

  async #hidden(): Promise<Float32Array> {
    const { config, model, stages } = this.#decoder;
    const axis = { groups: 1, from: config.hiddenSize, to: model.config.hiddenSize };
    const [hidden] = await this.#flush(part(stages.stream(this.#count), 0, 4 * this.#count * axis.to));
    return withoutPadding(hidden, axis);
  }

  async #view(layer: number, plan: AttentionPlan): Promise<GpuLayerView> {
    const { config, model, stages } = this.#decoder;
    const { queryHeads, keyHeads } = config;
    const axis = { groups: queryHeads + 2 * keyHeads, from: config.headSize, to: model.config.headSize };
    const size = 4 * this.#count * axis.groups * axis.to;
    const [projected] = await this.#flush(part(stages.projected(this.#count), 0, size));
    const gains = this.#decoder.headGains?.[layer] ?? null;
    const { queries, keys, values } = splitProjection(config, withoutPadding(projected, axis), gains);
    recognise(this.#cache.layers[layer].copies, keyRotations(plan, this.#request.rawKeys));
    const mirror = await mirrorOf(this.#cache, layer, config, this.#first);
    mirror.add(keys, values);
    return new GpuLayerView(config, this.#cache.slots, mirror, {
      layer,
      first: this.#first,
      count: this.#count,
      queries,
    });
  }

  #turned(layer: number, wanted: readonly Rotation[]): Dispatch[] | Promise<Dispatch[]> {
    const { copies } = this.#cache.layers[layer];
    if (wanted.some(({ id }) => !copies.has(id)) || copies.size !== wanted.length)
      this.#before.set(layer, new Map(copies));
    return ensureCopies(this.#decoder.attention, this.#turns, this.#cache, layer, wanted, this.#first);
  }

  /** Writes the layer's keys and values, and records its attention. */
  #attend(layer: number, plan: AttentionPlan, attend: boolean): void {
    const { attention, stages, workspace, weights } = this.#decoder;
    const cache = this.#cache;
    const { tables, slice: uploaded } = this.#prepared(layer, plan, attend);
    const { buffers } = cache.layers[layer];
    const queries = workspace.take("queries", queryBytes(attention.shape, tables.queryRotations, this.#count));
    this.#record(
      attention.rotateAndStore({
        tables,
        uploaded,
        projected: stages.projected(this.#count),
        queries,
        cache: buffers,
        norms: weights.layers[layer].headNorms ?? undefined,
      }),
    );
    if (!attend) return;
    const parts = workspace.take("attention parts", attention.partBytes(tables));
    const attended = stages.attended(this.#count);
    this.#record(attention.attend({ tables, uploaded, queries, cache: buffers, attended, parts }));
  }

  /** The tables of a plan, made once for all layers that have it and keep their keys in the same places. */
  #prepared(layer: number, plan: AttentionPlan, attend: boolean): UploadedTables {
    const { attention, model, config, workspace } = this.#decoder;
    const places = new Map([...this.#cache.layers[layer].copies].map(([id, { place }]) => [id, place] as const));
    const key = JSON.stringify([attend, ...places]);
    const known = this.#tables.get(plan) ?? [];
    this.#tables.set(plan, known);
    const found = known.find((candidate) => candidate.places === key);
    if (found) return found.uploaded;
    const tables = attentionTables({
      plan,
      slots: this.#cache.slots,
      first: this.#first,
      count: this.#count,
      headSize: config.headSize,
      scale: config.attentionScale,
      pairs: model.config.rope.rotarySize / 2,
      places,
      rawKeys: this.#request.rawKeys,
      attend,
      ...attention.cut(this.#count),
    });
    const uploaded = { tables, slice: workspace.put(tables.bytes) };
    known.push({ places: key, uploaded });
    return uploaded;
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

interface UploadedTables {
  readonly tables: AttentionTables;
  readonly slice: GpuSlice;
}
