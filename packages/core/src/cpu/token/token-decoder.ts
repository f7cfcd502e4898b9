import type { ModelSource } from "../weights/model-source.ts";
import { hasChoices, needsRawKeys } from "../../method/plan.ts";
import type { Angles } from "../../positions/rotation.ts";
import { massBand } from "../../state/attention-mass.ts";
import { ACTIVATE } from "./activation.ts";
import { choose, choosesApart, choosesFromCache, chosenFrom } from "../choice/choose.ts";
import { readTokens } from "../state/cold-reads.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { CpuLayerView, PerPlan, type Passage } from "../state/passage.ts";
import { Dense } from "./dense.ts";
import type { KeyCopies } from "../state/key-copies.ts";
import { NearestTokens } from "./nearest-tokens.ts";
import { TokenAttention } from "./token-attention.ts";
import { storedKeys, tokenPlan, withFound, type TokenPlan } from "./token-plan.ts";
import { fitsTokenWeights, tokenWeights, type TokenWeights } from "./token-weights.ts";

/**
 * Computes one token at a time in WebAssembly kernels: a product with one row takes less time than onnxruntime spends on
 * scheduling its nodes. It goes layer by layer, so hooks see what they see in the `SteppedDecoder`.
 */
export class TokenDecoder {
  readonly #source: ModelSource;
  readonly #copies: KeyCopies;
  readonly #dense: Dense;
  readonly #weights: TokenWeights;
  readonly #attention: TokenAttention;
  readonly #chooser: NearestTokens;

  constructor(source: ModelSource, threads: number, copies: KeyCopies) {
    this.#source = source;
    this.#copies = copies;
    this.#dense = new Dense(threads, source.precision === "exact");
    this.#weights = tokenWeights(source, this.#dense);
    this.#attention = new TokenAttention(source.config, this.#dense);
    this.#chooser = new NearestTokens(source.config, this.#dense, this.#attention.cache);
  }

  static fits(source: ModelSource): boolean {
    return fitsTokenWeights(source);
  }

  /** Is there room for the cache in the kernels' memory? */
  holds(state: CpuState): boolean {
    return state.movesTo(this.#dense.memory);
  }

  async run({ state, request, first, hidden, logits, logitRows }: Passage): Promise<void> {
    const { config } = this.#source;
    const { hooks, rawKeys = false } = request;
    const { stream, attended, projected, layers } = this.#weights;
    const attention = this.#attention;
    const prepared = new PerPlan<TokenPlan>();
    const turns = new Map<string, Angles | null>();
    const row = { first, count: 1, projected: projected.data };
    stream.data.set(hidden);
    for (let layer = 0; layer < layers.length; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      hook?.hidden?.(layer, stream.data.slice());
      this.#project(layer);
      const view = hook && new CpuLayerView(config, state, layer, first, 1, projected.data.slice());
      const given = request.plan(layer);
      const band = massBand(given);
      // The last layer that is computed writes its keys and values; attention is computed where logits, hooks or masses need it.
      const stops = layer === request.stopAfter;
      const attend = band > 0 || (!stops && (layer < layers.length - 1 || logitRows > 0 || hook !== undefined));
      const from = hasChoices(given) ? chosenFrom(given) : [];
      const chooses = (attend || hook !== undefined) && from.length > 0;
      if (chooses && choosesFromCache(given, first)) {
        this.#copies.add(state, layer, from, first);
        attention.store(state, layer, storedKeys(from, first, turns), projected.data);
      }
      const as = hook?.queries ? "lists" : "ranges"; // hooks know lists, and ranges cost less
      const at = { state, layer, copies: this.#copies, chooser: this.#chooser };
      const chosen = chooses ? await choose(given, at, row, as) : given;
      const plan = (view && (await hook.queries?.(view, chosen))) ?? chosen;
      const { slots, load } = readTokens(state, layer, attend ? plan : null, first, 1);
      const raw = rawKeys || needsRawKeys(given) || state.layers[layer].cold !== null;
      const kept = { rawKeys: raw, chosenFrom: from };
      const make = () => tokenPlan(plan, attend ? slots : null, first, kept, turns);
      // Layers with the same plan differ by what their heads have found.
      const alike = attend && plan === chosen && plan !== given && choosesApart(given);
      const token = alike ? withFound(prepared.get(given, slots, make), plan) : prepared.get(plan, slots, make);
      this.#copies.ensureForToken(
        state,
        layer,
        token.rotations.filter(({ keys }) => keys).map((use) => use.rotation),
        first,
        token.needed,
      );
      load();
      attention.store(state, layer, token, projected.data);
      if (attend) attention.attend(state, layer, token, projected.data, attended, band);
      if (stops) return;
      if (plan.memory) state.passMemory(layer, plan.memory, { ...row, attended: attend ? attended.data : null });
      if (!attend) return;
      if (view && hook.attended) attended.data.set(hook.attended(view, attended.data.slice()));
      this.#feedForward(layer);
    }
    if (logitRows === 0) return;
    const { hiddenSize, norm } = config;
    const { normed, finalNorm, head } = this.#weights;
    this.#dense.functions.normalise(stream.address, finalNorm.address, normed.address, hiddenSize, norm.epsilon);
    this.#dense.multiply(head);
    logits.set(head.output.data);
  }

  /** Computes the layer's q, k and v from the residual stream, into `projected`. */
  #project(layer: number): void {
    const { keyHeads, queryHeads, headSize, hiddenSize, norm } = this.#source.config;
    const { layers, stream, normed, projected } = this.#weights;
    const { attentionNorm, project, projectBias, queryNorm, keyNorm } = layers[layer];
    const { functions } = this.#dense;
    functions.normalise(stream.address, attentionNorm.address, normed.address, hiddenSize, norm.epsilon);
    this.#dense.multiply(project);
    projected.data.set(project.output.data);
    if (projectBias) functions.addTo(projected.address, projectBias.address, projected.data.length);
    for (let head = 0; head < queryHeads + keyHeads; head++) {
      const weight = head < queryHeads ? queryNorm : keyNorm;
      const at = projected.address + 4 * head * headSize;
      if (weight) functions.normalise(at, weight.address, at, headSize, norm.epsilon);
    }
  }

  /** Adds the output product of `attended` and the feed-forward network to the residual stream. */
  #feedForward(layer: number): void {
    const { hiddenSize, feedForwardSize, norm, activation } = this.#source.config;
    const { layers, stream, normed, inner } = this.#weights;
    const { output, outputBias, feedForwardNorm, gateUp, gateUpBias, down, downBias } = layers[layer];
    const { functions } = this.#dense;
    this.#dense.multiply(output);
    functions.addTo(stream.address, output.output.address, hiddenSize);
    if (outputBias) functions.addTo(stream.address, outputBias.address, hiddenSize);
    functions.normalise(stream.address, feedForwardNorm.address, normed.address, hiddenSize, norm.epsilon);
    this.#dense.multiply(gateUp);
    const gates = gateUp.output;
    if (gateUpBias) functions.addTo(gates.address, gateUpBias.address, 2 * feedForwardSize);
    if (activation === "silu") {
      functions.silu(gates.address, gates.address + 4 * feedForwardSize, inner.address, feedForwardSize);
    } else {
      const activate = ACTIVATE[activation];
      for (let i = 0; i < feedForwardSize; i++)
        inner.data[i] = activate(gates.data[i]) * gates.data[feedForwardSize + i];
    }
    this.#dense.multiply(down);
    functions.addTo(stream.address, down.output.address, hiddenSize);
    if (downBias) functions.addTo(stream.address, downBias.address, hiddenSize);
  }

  /** Logits [V] of a row behind the final norm; valid until the next ones. */
  logits(row: Float32Array): Float32Array {
    const { normed, head } = this.#weights;
    normed.data.set(row);
    this.#dense.multiply(head);
    return head.output.data;
  }

  release(): Promise<void> {
    return this.#dense.release();
  }
}
