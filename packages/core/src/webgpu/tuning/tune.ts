import { makeTable } from "../../positions/frequencies.ts";
import { EVERYTHING, TEXT_POSITION, type AttentionPlan } from "../../method/plan.ts";
import { rotation } from "../../positions/rotation.ts";
import { SlotMap } from "../../state/slots.ts";
import type { TensorType, WeightTensor } from "../../model/weights.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Capabilities, Dispatch } from "../device/kernel.ts";
import { AttentionKernels } from "../attention/attention.ts";
import { attentionTiling, PIECES_CANDIDATES, tilesCandidates } from "../attention/attention-tilings.ts";
import { attentionClass, ringShape, queryBytes, type AttentionShape } from "../attention/attention-shape.ts";
import { splitTiling } from "../attention/attention-split.ts";
import { productCandidates, productDispatch, productTiling } from "../products/product-path.ts";
import { productKey, type Product } from "../products/product.ts";
import { attentionTables } from "../attention/lane-table.ts";
import { storedTiling } from "./stored-tuning.ts";
import {
  PRODUCT_CLASSES,
  sameTiling,
  type AttentionTiling,
  type ProductClass,
  type ProductTiling,
  type SplitSizes,
  type Tuning,
} from "../device/tilings.ts";
import { uploadMatrices } from "../weights/weights-upload.ts";

/** What tilings are measured on: sizes of a model. */
export interface TuneSizes {
  /** Of a product's matrix. */
  readonly rows: number;
  readonly columns: number;
  readonly attention: AttentionShape;
  /** Tokens of a chunk, and tokens that one token looks back at. */
  readonly chunk: number;
  readonly context: number;
}

const KERNELS = [...PRODUCT_CLASSES, "many queries", "one query"] as const;
export type TunedKernel = (typeof KERNELS)[number];

export interface TuneOptions {
  /** Not all of them. */
  readonly only?: readonly TunedKernel[];
  /** How often each tiling is measured, 5 unless given; once more before, to compile it. */
  readonly rounds?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, what: string) => void;
}

/** One kernel's choice. */
export interface TuneResult {
  readonly name: TunedKernel;
  /** As words: "broadcast lanes 8 rows 2 tokens 2". */
  readonly standard: string;
  readonly best: string;
  /** Milliseconds. */
  readonly standardTime: number;
  readonly bestTime: number;
  readonly tried: number;
}

/** A tiling has to be so much faster than the one that is taken without a tuning. */
const WORTH = 0.95;

/** What a kernel's candidates are measured by; made where what it allocates is collected. */
interface Contest<Tiling> {
  /** What is taken without a tuning. */
  readonly standard: Tiling;
  readonly candidates: readonly Tiling[];
  dispatches(tiling: Tiling): readonly Dispatch[];
}

/**
 * Measures the tilings that kernels may follow on this adapter. The candidates of a kernel take turns, round after round,
 * so that a slow moment of the machine weighs on all of them, and the best time of each counts.
 */
export async function tune(
  gpu: Gpu,
  sizes: TuneSizes,
  options: TuneOptions = {},
): Promise<{ readonly tuning: Tuning; readonly results: readonly TuneResult[] }> {
  const { attention: shape } = sizes;
  // What a stored tuning says is no standard to measure against.
  const capabilities = { ...gpu.capabilities, tuning: undefined };
  const lacking = PRODUCT_CLASSES.filter((name) => productCandidates(name, capabilities).length === 0);
  const only = (options.only ?? KERNELS).filter((name) => !lacking.some((of) => of === name));
  const tuner = new Tuner(gpu, { ...options, only });
  const products: Partial<Record<ProductClass, ProductTiling>> = {};
  for (const name of PRODUCT_CLASSES) {
    const tiling = await tuner.choose(name, () => productContest(gpu, name, sizes, capabilities));
    if (tiling) products[name] = tiling;
  }
  const tiles = await tuner.choose("many queries", () => tilesContest(gpu, sizes, capabilities));
  const pieces = await tuner.choose("one query", () => piecesContest(gpu, sizes, capabilities));
  const of = attentionClass(shape);
  const tuning: Tuning = { products, tiles: tiles ? { [of]: tiles } : {}, pieces: pieces ? { [of]: pieces } : {} };
  return { tuning, results: tuner.results };
}

/** Plays one contest after another. */
class Tuner {
  readonly results: TuneResult[] = [];
  readonly #gpu: Gpu;
  readonly #options: TuneOptions & Required<Pick<TuneOptions, "only" | "rounds">>;

  constructor(gpu: Gpu, { only = KERNELS, rounds = 5, signal, onProgress }: TuneOptions) {
    this.#gpu = gpu;
    this.#options = { only, rounds, signal, onProgress };
  }

  /** The tiling that is worth more than the standard one; null where none is, or where nobody asked for the kernel. */
  async choose<Tiling extends object>(name: TunedKernel, prepare: () => Contest<Tiling>): Promise<Tiling | null> {
    if (!this.#options.only.includes(name)) return null;
    const { result, slices } = this.#gpu.collect(() => {
      const { standard, candidates, dispatches } = prepare();
      const tilings = withStandard(standard, candidates);
      return {
        tilings,
        own: tilings.findIndex((tiling) => sameTiling(tiling, standard)),
        trials: tilings.map(dispatches),
      };
    });
    try {
      const { tilings, own, trials } = result;
      const times = await this.#measure(name, trials);
      const best = times.indexOf(Math.min(...times));
      const taken = times[best] < WORTH * times[own] ? best : own;
      this.results.push({
        name,
        standard: words(tilings[own]),
        best: words(tilings[taken]),
        standardTime: times[own],
        bestTime: times[taken],
        tried: tilings.length,
      });
      return taken === own ? null : tilings[taken];
    } finally {
      for (const slice of slices) this.#gpu.free(slice);
    }
  }

  /** The least milliseconds of each trial. */
  async #measure(name: TunedKernel, trials: readonly (readonly Dispatch[])[]): Promise<number[]> {
    const { only, rounds, signal, onProgress } = this.#options;
    const times = trials.map(() => Infinity);
    for (let round = 0; round <= rounds; round++)
      for (const [i, dispatches] of trials.entries()) {
        signal?.throwIfAborted();
        onProgress?.(this.results.length, only.length, name);
        const time = await timeOf(this.#gpu, dispatches);
        if (round > 0) times[i] = Math.min(times[i], time); // the first one compiles
      }
    return times;
  }
}

function withStandard<Tiling extends object>(standard: Tiling, candidates: readonly Tiling[]): readonly Tiling[] {
  return candidates.some((tiling) => sameTiling(tiling, standard)) ? candidates : [standard, ...candidates];
}

function productContest(
  gpu: Gpu,
  name: ProductClass,
  sizes: TuneSizes,
  capabilities: Capabilities,
): Contest<ProductTiling> {
  const product = makeProduct(gpu, name, sizes);
  const { tokens, matrix, precision } = product;
  const shape = { tokens, rows: matrix.rows, blocks: matrix.blocks, precision };
  return {
    standard: productTiling(productKey(product), shape, capabilities),
    candidates: productCandidates(name, capabilities),
    dispatches: (tiling) => [productDispatch(product, capabilities, tiling)],
  };
}

function tilesContest(
  gpu: Gpu,
  { attention: shape, chunk }: TuneSizes,
  capabilities: Capabilities,
): Contest<AttentionTiling> {
  return {
    standard: attentionTiling(shape, capabilities),
    candidates: tilesCandidates(shape, capabilities),
    dispatches: (tiles) => {
      const kernels = new AttentionKernels(shape, capabilities, null, { tiles });
      return makeAttention(gpu, kernels, { tokens: chunk, before: 0 });
    },
  };
}

function piecesContest(
  gpu: Gpu,
  { attention: shape, context }: TuneSizes,
  capabilities: Capabilities,
): Contest<SplitSizes> {
  const sizesOf = (wanted?: SplitSizes): SplitSizes => {
    const { threads, longest } = splitTiling({ shape }, capabilities, wanted);
    return { threads, longest };
  };
  return {
    standard: sizesOf(),
    candidates: PIECES_CANDIDATES.filter((sizes) => sameTiling(sizesOf(sizes), sizes)), // others do not fit
    dispatches: (pieces) => {
      const kernels = new AttentionKernels(shape, capabilities, null, { pieces });
      return makeAttention(gpu, kernels, { tokens: 1, before: context - 1 });
    },
  };
}

/** Milliseconds of the dispatches: those that the device measured, else those until it was done. */
async function timeOf(gpu: Gpu, dispatches: readonly Dispatch[]): Promise<number> {
  if (gpu.capabilities.timestamps)
    return (await gpu.time(dispatches)).reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6;
  const start = performance.now();
  await gpu.run(dispatches);
  return performance.now() - start;
}

/** A product over zeros, which take as long as other numbers. */
function makeProduct(gpu: Gpu, of: ProductClass, { rows, columns, chunk }: TuneSizes): Product {
  const packed = of.includes("packed");
  const tokens = of.startsWith("one") ? 1 : chunk;
  const type: TensorType = packed ? "Q4_0" : "F32";
  const bytes = new Uint8Array(packed ? (rows * columns * 18) / 32 : rows * columns * 4);
  const zeros: WeightTensor = {
    name: "zeros",
    type,
    shape: [rows, columns],
    bytes: () => bytes,
    toFloat32: () => new Float32Array(rows * columns),
  };
  const [matrix] = uploadMatrices(gpu, [zeros]);
  return {
    matrix,
    tokens,
    input: gpu.allocate(4 * tokens * columns, "trials"),
    output: gpu.allocate(4 * tokens * rows, "trials"),
    outputStride: rows,
    precision: of.endsWith("fast") ? "fast" : "exact",
  };
}

/** Causal attention of `tokens` queries after `before` others. */
function makeAttention(
  gpu: Gpu,
  kernels: AttentionKernels,
  { tokens, before }: { readonly tokens: number; readonly before: number },
): Dispatch[] {
  const { shape } = kernels;
  const total = tokens + before;
  const table = makeTable(new Float64Array(shape.pairs), 1);
  const position = { queryPosition: TEXT_POSITION, keyPosition: TEXT_POSITION };
  const plan: AttentionPlan = { segments: [{ tokens: EVERYTHING, table, ...position, band: EVERYTHING }] };
  const slots = new SlotMap({ capacity: total, pinned: total });
  slots.append(total);
  const { stride, places, groups } = ringShape(shape, total, 1, gpu.capabilities);
  const tables = attentionTables({
    plan,
    slots,
    first: before,
    count: tokens,
    headSize: shape.headSize,
    pairs: shape.pairs,
    places: new Map([[rotation(table, TEXT_POSITION).id, 0]]),
    ...kernels.cut(tokens),
  });
  const allocate = (bytes: number) => gpu.allocate(bytes, "trials");
  const uploaded = gpu.upload(tables.bytes, "trials");
  return kernels.attend({
    tables,
    uploaded,
    queries: allocate(queryBytes(shape, tables.queryRotations, tokens)),
    ring: {
      stride,
      places,
      groups: groups.map(({ firstHead, heads, keyBytes, valueBytes }) => ({
        firstHead,
        heads,
        keys: allocate(keyBytes),
        values: allocate(valueBytes),
      })),
    },
    attended: allocate(4 * tokens * shape.queryHeads * shape.headSize),
    parts: allocate(kernels.partBytes(tables)),
  });
}

function words(tiling: object): string {
  return Object.entries(storedTiling(tiling))
    .map(([name, value]) => (name === "path" ? String(value) : `${name} ${String(value)}`))
    .join(" ");
}
