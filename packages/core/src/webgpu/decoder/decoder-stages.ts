import type { Precision } from "../../backend/backend.ts";
import type { Activation } from "../../model/config.ts";
import type { AlignedModel } from "../weights/aligned.ts";
import type { GpuLayerWeights, GpuWeights } from "../weights/decoder-weights.ts";
import type { Capabilities, Dispatch, GpuSlice } from "../device/kernel.ts";
import { activate } from "../products/activation.ts";
import { embed } from "../products/embedding.ts";
import { expertProduct, type ExpertProduct } from "../products/expert-product.ts";
import { routeBytes, routeTokens } from "../products/experts.ts";
import { normalise } from "../products/norm.ts";
import { productDispatch, productPath } from "../products/product-path.ts";
import type { GpuMatrix } from "../weights/weights-packed.ts";
import type { Product } from "../products/product.ts";
import { inSteps } from "../device/submissions.ts";
import type { Workspace } from "../device/workspace.ts";

/** Chunks of many sizes would otherwise be remembered for ever. */
const MOST_KNOWN = 4096;

/** Rows [first, first + count) of the buffers that a chunk flows through. */
export interface Rows {
  readonly first: number;
  readonly count: number;
}

/**
 * Everything of a decoder but attention, as dispatches: norms go into products of few rows and stand alone before those
 * of many, biases, residual sums and activations are part of the product before them.
 */
export class DecoderStages {
  readonly #model: AlignedModel;
  readonly #weights: GpuWeights;
  readonly #capabilities: Capabilities;
  readonly #workspace: Workspace;
  readonly #precision: Precision;
  /** Dispatches by stage, layer and rows, as long as the buffers stay the same: a token makes the ones before it again. */
  readonly #known = new Map<string, readonly Dispatch[]>();
  #generation = 0;

  constructor(
    model: AlignedModel,
    weights: GpuWeights,
    capabilities: Capabilities,
    workspace: Workspace,
    precision: Precision,
  ) {
    this.#model = model;
    this.#weights = weights;
    this.#capabilities = capabilities;
    this.#workspace = workspace;
    this.#precision = precision;
  }

  /** Residual stream [T, hidden]. */
  stream(count: number): GpuSlice {
    return this.#workspace.take("hidden states", 4 * count * this.#model.config.hiddenSize);
  }

  /** q, k and v [T, (H + 2K)·D]. */
  projected(count: number): GpuSlice {
    return this.#workspace.take("projections", 4 * count * this.#projectedSize);
  }

  /** [T, H·D] */
  attended(count: number): GpuSlice {
    const { queryHeads, headSize } = this.#model.config;
    return this.#workspace.take("attention outputs", 4 * count * queryHeads * headSize);
  }

  logits(rows: number): GpuSlice {
    return this.#workspace.take("logits", 4 * rows * this.#model.config.vocabSize);
  }

  get #projectedSize(): number {
    const { queryHeads, keyHeads, headSize } = this.#model.config;
    return (queryHeads + 2 * keyHeads) * headSize;
  }

  /** ids [T] → stream. */
  embed(ids: GpuSlice, count: number): readonly Dispatch[] {
    const output = this.stream(count);
    const { embeddingScale: scale } = this.#model.config;
    return this.#weights.embedding.map((matrix) =>
      embed({ matrix, ids, tokens: count, output, scale }, this.#capabilities),
    );
  }

  /** stream → projected. */
  project(layer: number, count: number): readonly Dispatch[] {
    return this.#remember(`project ${layer} ${count}`, () => this.#project(layer, count));
  }

  #project(layer: number, count: number): Dispatch[] {
    const { attentionNorm, project, projectBias } = this.#weights.layers[layer];
    return this.#product(project, {
      tokens: count,
      norm: { weight: attentionNorm, epsilon: this.#model.epsilon },
      input: this.stream(count),
      output: this.projected(count),
      outputStride: this.#projectedSize,
      bias: projectBias ?? undefined,
    });
  }

  /** attended → stream, past the layer; only some rows where nobody reads the others. `count` is that of the chunk. */
  feedForward(layer: number, count: number, rows: Rows): readonly Dispatch[] {
    const key = `feed-forward ${layer} ${count} ${rows.first} ${rows.count}`;
    return this.#remember(key, () => this.#feedForward(layer, count, rows));
  }

  #feedForward(layer: number, count: number, rows: Rows): Dispatch[] {
    const { hiddenSize, queryHeads, headSize } = this.#model.config;
    const weights = this.#weights.layers[layer];
    const stream = this.stream(count);
    return [
      ...this.#added(weights.attentionPostNorm, stream, rows, (goal) =>
        this.#product(weights.output, {
          ...goal,
          tokens: rows.count,
          input: this.attended(count),
          inputOffset: rows.first * queryHeads * headSize,
          outputStride: hiddenSize,
          bias: weights.outputBias ?? undefined,
        }),
      ),
      ...(weights.router ? this.#mixture(weights, weights.router, stream, rows) : this.#network(weights, stream, rows)),
    ];
  }

  /** stream += what is made; by way of a buffer where it is normalised before. */
  #added(
    norm: GpuSlice | null,
    stream: GpuSlice,
    { first, count }: Rows,
    make: (goal: Pick<Product, "output" | "outputOffset" | "add">) => Dispatch[],
  ): Dispatch[] {
    const { hiddenSize: size } = this.#model.config;
    if (!norm) return make({ output: stream, outputOffset: first * size, add: true });
    const sums = this.#workspace.take("sums", 4 * count * size);
    const { epsilon } = this.#model;
    const added = { kind: "rms", tokens: count, size, input: sums, weight: norm, epsilon, add: true } as const;
    return [
      ...make({ output: sums }),
      normalise({ ...added, output: stream, outputOffset: first * size }, this.#capabilities),
    ];
  }

  /** stream += down(activation(gate) · up) */
  #network(weights: GpuLayerWeights, stream: GpuSlice, rows: Rows): Dispatch[] {
    const { hiddenSize, feedForwardSize } = this.#model.config;
    const inner = this.#workspace.take("inner states", 4 * rows.count * feedForwardSize);
    return [
      ...this.#gated(weights, stream, rows, inner),
      ...this.#added(weights.feedForwardPostNorm, stream, rows, (goal) =>
        this.#product(weights.down, {
          ...goal,
          tokens: rows.count,
          input: inner,
          outputStride: hiddenSize,
          bias: weights.downBias ?? undefined,
        }),
      ),
    ];
  }

  /** stream += the same of the experts that the router chooses for each row, times their weights. */
  #mixture(weights: GpuLayerWeights, router: GpuSlice, stream: GpuSlice, { first, count }: Rows): Dispatch[] {
    const { hiddenSize, activation, experts } = this.#model.config;
    const { perToken, feedForwardSize } = experts!;
    const { epsilon } = this.#model;
    const at = first * hiddenSize;
    const routes = this.#workspace.take("routes", routeBytes(count, experts!));
    const inner = this.#workspace.take("inner states", 4 * count * perToken * feedForwardSize);
    const common = { routes, perToken, tokens: count };
    const gates = { activation, norm: { weight: weights.feedForwardNorm, epsilon } };
    const product = (work: ExpertProduct) => expertProduct(work, this.#capabilities);
    return [
      routeTokens(
        { experts: experts!, tokens: count, input: stream, inputOffset: at, hiddenSize, router, epsilon, routes },
        this.#capabilities,
      ),
      ...weights.gateUp.flatMap((matrix) =>
        product({
          ...common,
          matrix,
          expertRows: 2 * feedForwardSize,
          input: stream,
          inputOffset: at,
          output: inner,
          gates,
        }),
      ),
      ...weights.down.flatMap((matrix) =>
        product({ ...common, matrix, expertRows: hiddenSize, input: inner, output: stream, outputOffset: at }),
      ),
    ];
  }

  /** stream → activation(gate) · up, [rows, F]. */
  #gated(weights: GpuLayerWeights, stream: GpuSlice, rows: Rows, inner: GpuSlice): Dispatch[] {
    const { hiddenSize, feedForwardSize, activation } = this.#model.config;
    const { feedForwardNorm, gateUp, gateUpBias, interleaved } = weights;
    const common = {
      tokens: rows.count,
      norm: { weight: feedForwardNorm, epsilon: this.#model.epsilon },
      input: stream,
      inputOffset: rows.first * hiddenSize,
      bias: gateUpBias ?? undefined,
    };
    if (interleaved)
      return this.#product(gateUp, { ...common, output: inner, outputStride: feedForwardSize, activation });
    const both = this.#workspace.take("gates", 8 * rows.count * feedForwardSize);
    return [
      ...this.#product(gateUp, { ...common, output: both, outputStride: 2 * feedForwardSize }),
      ...this.#activated(activation, rows.count, both, inner),
    ];
  }

  #activated(activation: Activation, rows: number, gateUp: GpuSlice, output: GpuSlice): Dispatch[] {
    const { feedForwardSize: size } = this.#model.config;
    return [activate({ activation, rows, size, gateUp, output }, this.#capabilities)];
  }

  /** stream → logits [rows, V] of some rows. */
  head(count: number, rows: Rows): readonly Dispatch[] {
    return this.#remember(`head ${count} ${rows.first} ${rows.count}`, () => this.#head(count, rows));
  }

  #head(count: number, rows: Rows): Dispatch[] {
    const { hiddenSize, vocabSize, logitSoftCap } = this.#model.config;
    return this.#product(this.#weights.head, {
      tokens: rows.count,
      norm: { weight: this.#weights.finalNorm, epsilon: this.#model.epsilon },
      input: this.stream(count),
      inputOffset: rows.first * hiddenSize,
      output: this.logits(rows.count),
      outputStride: vocabSize,
      cap: logitSoftCap,
    });
  }

  #remember(key: string, make: () => Dispatch[]): readonly Dispatch[] {
    const known = this.#generation === this.#workspace.generation ? this.#known.get(key) : undefined;
    if (known) return known;
    const made = make().map((dispatch) => ({ ...dispatch, lasting: true }));
    if (this.#generation !== this.#workspace.generation || this.#known.size >= MOST_KNOWN) this.#known.clear();
    this.#generation = this.#workspace.generation;
    this.#known.set(key, made);
    return made;
  }

  /**
   * One dispatch for each part of the matrix, several for some tokens each where they are much work, and one for the norm
   * before tiles.
   */
  #product(parts: readonly GpuMatrix[], product: Omit<Product, "matrix">): Dispatch[] {
    const { norm, tokens, input, inputOffset = 0 } = product;
    const all = (changes: Partial<Product>) =>
      parts.flatMap((matrix) => this.#inSteps({ ...product, ...changes, matrix, precision: this.#precision }));
    if (!norm || productPath(tokens) === "rows") return all({});
    const size = parts[0].columns;
    const normed = this.#workspace.take("normed states", 4 * tokens * size);
    const { weight, epsilon } = norm;
    return [
      normalise({ kind: "rms", tokens, size, input, inputOffset, weight, epsilon, output: normed }, this.#capabilities),
      ...all({ norm: undefined, input: normed, inputOffset: 0 }),
    ];
  }

  #inSteps(product: Product): Dispatch[] {
    const { matrix, tokens, input, inputOffset = 0, outputOffset = 0, outputStride } = product;
    if (tokens === 1) return [productDispatch(product, this.#capabilities)];
    const work = matrix.rows * matrix.columns;
    return inSteps(tokens, tokens * work).map(({ from, to }) => ({
      ...productDispatch(
        {
          ...product,
          tokens: to - from,
          input,
          inputOffset: inputOffset + from * matrix.columns,
          outputOffset: outputOffset + from * outputStride,
        },
        this.#capabilities,
      ),
      work: (to - from) * work,
    }));
  }
}
