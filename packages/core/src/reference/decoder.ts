import type { Backend, ForwardRequest, LayerHooks, SequenceState } from "../backend/backend.ts";
import { checkExact, checkRequest, foreignState } from "../backend/forward-checks.ts";
import type { ModelConfig } from "../model/config.ts";
import {
  ANY_ACTIVATION,
  checkComputes,
  DESCRIPTION,
  EXPERTS,
  FLAG,
  oneOf,
  optional,
  POSITIVE,
  RMS_NORM,
  type Computes,
} from "../backend/computes.ts";
import { eventLoopTurn } from "../common/event-loop.ts";
import type { LayerView, RingLayout } from "../method/method.ts";
import { choicesOf, withChosen, type AttentionPlan } from "../method/plan.ts";
import { massBand } from "../state/attention-mass.ts";
import { Rings } from "../state/rings.ts";
import type { Weights } from "../model/weights.ts";
import { readWeights, type DecoderWeights, type GatedNetwork, type LayerWeights } from "./decoder-weights.ts";
import { DenseAttention } from "./dense-attention.ts";
import { ACTIVATE, add, multiply, rmsNorm, softCapped } from "./dense.ts";
import { choose } from "./choose.ts";
import { route } from "./experts.ts";
import { ReferenceState } from "./reference-state.ts";

/** What the reference computes of a model: all that `ModelConfig` can say. */
const COMPUTES: Computes = {
  ...DESCRIPTION,
  norm: RMS_NORM,
  feedForward: oneOf("gated"),
  experts: optional(EXPERTS),
  activation: ANY_ACTIVATION,
  position: oneOf("rope"),
  postNorms: optional(FLAG),
  embeddingScale: optional(POSITIVE),
  attentionScale: optional(POSITIVE),
  logitSoftCap: optional(POSITIVE),
  attentionSoftCap: optional(POSITIVE),
};

/**
 * The judge of the other backends: a decoder written down from its definition, every number in float64 but the weights
 * and what the hooks see. Slow on purpose; it shares no arithmetic with the fast ones, only the contracts and the map from tokens to slots.
 */
export function createReference(config: ModelConfig, weights: Weights): Backend {
  checkComputes("reference", COMPUTES, config, "");
  return new ReferenceDecoder(config, readWeights(config, weights));
}

class ReferenceDecoder implements Backend {
  readonly device = "reference";
  readonly precision = "exact";
  readonly preferredChunk = 128;
  readonly config: ModelConfig;
  readonly #weights: DecoderWeights;

  constructor(config: ModelConfig, weights: DecoderWeights) {
    this.config = config;
    this.#weights = weights;
  }

  createState(layouts: RingLayout | readonly RingLayout[]): SequenceState {
    return new ReferenceState(this, Rings.of(layouts, this.config.layerCount));
  }

  restoreState(layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array): SequenceState {
    return ReferenceState.restore(this, layouts, bytes);
  }

  async forward(request: ForwardRequest): Promise<Float32Array> {
    const state = this.#check(request);
    const { ids, logitRows } = request;
    const { hiddenSize, norm, logitSoftCap } = this.config;
    const first = state.rings.length;
    state.append(ids.length);

    let hidden = this.#embed(ids);
    for (let layer = 0; layer < this.config.layerCount; layer++) {
      const output = await this.#layer(layer, hidden, first, state, request);
      if (!output) return new Float32Array(0);
      hidden = output;
      await eventLoopTurn(); // a chunk takes seconds, and signals and timers want to be heard
    }
    const last = hidden.subarray((ids.length - logitRows) * hiddenSize);
    const logits = multiply(this.#weights.head, rmsNorm(last, this.#weights.finalNorm, norm.epsilon));
    return Float32Array.from(logits, (logit) => softCapped(logit, logitSoftCap));
  }

  /** Rows of the embedding, [T, hidden]. */
  #embed(ids: readonly number[]): Float64Array {
    const { hiddenSize, embeddingScale = 1 } = this.config;
    const hidden = new Float64Array(ids.length * hiddenSize);
    ids.forEach((id, t) =>
      hidden.set(this.#weights.embedding.subarray(id * hiddenSize, (id + 1) * hiddenSize), t * hiddenSize),
    );
    return hidden.map((value) => value * embeddingScale);
  }

  /** x + attention(norm x), then x + feed-forward(norm x); [T, hidden] to [T, hidden]. Null where the pass stops. */
  async #layer(
    layer: number,
    hidden: Float64Array,
    first: number,
    state: ReferenceState,
    request: ForwardRequest,
  ): Promise<Float64Array | null> {
    const { epsilon } = this.config.norm;
    const weights = this.#weights.layers[layer];
    const hooks = request.hooks?.layers(layer) ? request.hooks : undefined;
    hooks?.hidden?.(layer, Float32Array.from(hidden));

    const normed = rmsNorm(hidden, weights.attentionNorm, epsilon);
    let queries = multiply(weights.query, normed);
    let keys = multiply(weights.key, normed);
    const values = multiply(weights.value, normed);
    if (weights.queryNorm) queries = rmsNorm(queries, weights.queryNorm, epsilon);
    if (weights.keyNorm) keys = rmsNorm(keys, weights.keyNorm, epsilon);
    state.write(layer, first, keys, values);

    const stops = layer === request.stopAfter;
    const attended = await this.#attend(layer, queries, first, state, request.plan(layer), hooks, stops);
    if (!attended) return null;
    const normedIf = (sums: Float64Array, norm: Float32Array | null) => (norm ? rmsNorm(sums, norm, epsilon) : sums);
    const after = add(hidden, normedIf(multiply(weights.output, attended), weights.attentionPostNorm));
    const inner = this.#feedForward(weights, rmsNorm(after, weights.feedForwardNorm, epsilon));
    return add(after, normedIf(inner, weights.feedForwardPostNorm));
  }

  /** Queries [T, H, D], not rotated, to the sums of values they see, [T, H, D]. Null where the pass stops. */
  async #attend(
    layer: number,
    queries: Float64Array,
    first: number,
    state: ReferenceState,
    planned: AttentionPlan,
    hooks: LayerHooks | undefined,
    stops: boolean,
  ): Promise<Float64Array | null> {
    checkExact(planned, "reference");
    const { queryHeads, keyHeads, headSize } = this.config;
    const size = queryHeads * headSize;
    const view: LayerView = {
      layer,
      first,
      count: queries.length / size,
      queries: () => Float32Array.from(queries),
      keys: ({ from, to }) => Float32Array.from(state.keys(layer, range(from, to))),
      values: ({ from, to }) => Float32Array.from(state.values(layer, range(from, to))),
    };
    const mass = state.mass(layer);
    const asking = {
      layer,
      first,
      queries,
      keys: (begin: number, end: number) => state.keys(layer, range(begin, end)),
      mass,
    };
    const taken = new Map(
      choicesOf(planned).map((choice) => [choice.id, choose(choice, this.config, asking)] as const),
    );
    const chosen = withChosen(planned, ({ id }) => taken.get(id)!);
    const plan = (await hooks?.queries?.(view, chosen)) ?? chosen;
    const band = massBand(planned);
    if (stops && band === 0) return null;

    const tokens = state.tokens(layer);
    const values = state.values(layer, tokens);
    const keysHeld = state.keys(layer, tokens);
    const attention = new DenseAttention(this.config, plan, tokens, keysHeld);
    const output = new Float64Array(queries.length);
    /** Adds the values that a row of queries sees to `sums`, times their probabilities. */
    const addSeen = (softmax: DenseAttention, t: number, sums: Float64Array, massOf = 0) =>
      softmax.row(first + t, queries.subarray(t * size, (t + 1) * size)).forEach((seen, h) => {
        const keyHead = Math.floor((h * keyHeads) / queryHeads);
        const to = t * size + h * headSize;
        seen.tokens.forEach((row, j) => {
          const from = (row * keyHeads + keyHead) * headSize;
          const distance = first + t - tokens[row];
          if (distance >= 0 && distance < massOf) mass.add(tokens[row], keyHead, seen.probabilities[j]);
          for (let i = 0; i < headSize; i++) sums[to + i] += seen.probabilities[j] * values[from + i];
        });
      });
    for (let t = 0; t < view.count; t++) addSeen(attention, t, output, band);
    if (band > 0) mass.counted = first + view.count;
    if (stops) return null;
    if (plan.gated) {
      const { segments, gates, scales } = plan.gated;
      const { temperature } = plan;
      const branch = new DenseAttention(
        this.config,
        { segments, temperature, scales: scales?.[layer] },
        tokens,
        keysHeld,
      );
      const found = new Float64Array(queries.length);
      for (let t = 0; t < view.count; t++) addSeen(branch, t, found);
      output.forEach((local, i) => {
        const gate = 1 / (1 + Math.exp(-gates[layer][Math.floor((i % size) / headSize)]));
        output[i] = gate * found[i] + (1 - gate) * local;
      });
    }
    if (plan.memory)
      state
        .memory(layer)
        .pass(plan.memory, plan.memory.gates[layer], { first, queries, attended: output }, (from, to) => ({
          keys: state.keys(layer, range(from, to)),
          values: state.values(layer, range(from, to)),
        }));
    return hooks?.attended ? Float64Array.from(hooks.attended(view, Float32Array.from(output))) : output;
  }

  /** One network, or the sum of those that the router chooses for each row, times their weights. */
  #feedForward({ router, networks }: LayerWeights, input: Float64Array): Float64Array {
    if (!router) return this.#gated(networks[0], input);
    const { hiddenSize, experts } = this.config;
    const output = new Float64Array(input.length);
    for (let row = 0; row < input.length; row += hiddenSize) {
      const x = input.subarray(row, row + hiddenSize);
      for (const { expert, weight } of route(multiply(router, x), experts!)) {
        const answer = this.#gated(networks[expert], x);
        for (let i = 0; i < hiddenSize; i++) output[row + i] += weight * answer[i];
      }
    }
    return output;
  }

  /** down(activation(gate x) · up x) */
  #gated({ gate, up, down }: GatedNetwork, input: Float64Array): Float64Array {
    const activate = ACTIVATE[this.config.activation];
    const factors = multiply(up, input);
    const gated = multiply(gate, input).map((value, i) => activate(value) * factors[i]);
    return multiply(down, gated);
  }

  #check(request: ForwardRequest): ReferenceState {
    const { state } = request;
    if (!(state instanceof ReferenceState) || state.backend !== this) throw foreignState(state, this);
    state.check();
    checkRequest(request, this.config);
    return state;
  }

  async dispose(): Promise<void> {
    // Nothing is held outside the heap.
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
}
