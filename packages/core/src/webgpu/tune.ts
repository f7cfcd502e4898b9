import { makeTable } from "../frequencies.ts";
import type { AttentionPlan } from "../plan.ts";
import { rotation } from "../rotation.ts";
import { SlotMap } from "../slots.ts";
import { TEXT_POSITION } from "../plan.ts";
import type { TensorType, WeightTensor } from "../weights.ts";
import type { Gpu } from "./gpu.ts";
import type { Dispatch, GpuSlice } from "./kernel.ts";
import { AttentionKernels, planQueryTiles, type AttentionPlans } from "./kernels/attention.ts";
import { cacheShape, queryBytes, type AttentionShape } from "./kernels/attention-shape.ts";
import { partBytes, splitPlan, type SplitSizes } from "./kernels/attention-split.ts";
import { planProduct, productDispatch } from "./kernels/product-path.ts";
import { productKey, type Product } from "./kernels/product.ts";
import { attentionTables } from "./lane-table.ts";
import {
  attentionClass,
  PIECES_CANDIDATES,
  PRODUCT_CLASSES,
  productCandidates,
  samePlan,
  tilesCandidates,
  UNTUNED,
  type ProductClass,
  type Tuning,
} from "./tuning.ts";
import { uploadMatrices } from "./weights-upload.ts";

/** What plans are measured on: sizes of a model. */
export interface TuneSizes {
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

/** A plan has to be so much faster than the one that is taken without a tuning. */
const WORTH = 0.95;

interface Trial<Plan> {
  readonly plan: Plan;
  readonly dispatches: readonly Dispatch[];
}

/**
 * Measures the plans that kernels may follow on this adapter. The candidates of a kernel take turns, round after round,
 * so that a slow moment of the machine weighs on all of them, and the best time of each counts.
 */
export async function tune(
  gpu: Gpu,
  sizes: TuneSizes,
  { only = KERNELS, rounds = 5, signal, onProgress }: TuneOptions = {},
): Promise<{ readonly tuning: Tuning; readonly results: readonly TuneResult[] }> {
  // What a stored tuning says is no standard to measure against.
  const capabilities = { ...gpu.capabilities, tuning: undefined };
  const results: TuneResult[] = [];
  const held: GpuSlice[] = [];
  const hold = <T extends GpuSlice>(slice: T): T => (held.push(slice), slice);
  const choose = async <Plan extends object>(name: TunedKernel, standard: Plan, trials: readonly Trial<Plan>[]) => {
    const times = trials.map(() => Infinity);
    for (let round = 0; round <= rounds; round++) {
      for (const [i, { dispatches }] of trials.entries()) {
        signal?.throwIfAborted();
        onProgress?.(results.length, only.length, name);
        const time = await timeOf(gpu, dispatches);
        if (round > 0) times[i] = Math.min(times[i], time); // the first one compiles
      }
    }
    const own = trials.findIndex(({ plan }) => samePlan(plan, standard));
    const best = times.indexOf(Math.min(...times));
    const taken = times[best] < WORTH * times[own] ? best : own;
    results.push({
      name,
      standard: words(standard),
      best: words(trials[taken].plan),
      standardTime: times[own],
      bestTime: times[taken],
      tried: trials.length,
    });
    for (const slice of held.splice(0)) gpu.free(slice);
    return taken === own ? null : trials[taken].plan;
  };
  const products: Partial<Record<ProductClass, Tuning["products"][ProductClass]>> = {};
  for (const name of PRODUCT_CLASSES.filter((kernel) => only.includes(kernel))) {
    const product = makeProduct(gpu, name, sizes, hold);
    const { tokens, matrix } = product;
    const standard = planProduct(
      productKey(product),
      { tokens, rows: matrix.rows, blocks: matrix.blocks },
      capabilities,
    );
    const trials = withStandard(standard, productCandidates(name, capabilities)).map((plan) => ({
      plan,
      dispatches: [productDispatch(product, capabilities, plan)],
    }));
    const plan = await choose(name, standard, trials);
    if (plan) products[name] = plan;
  }
  const { attention: shape } = sizes;
  const of = attentionClass(shape);
  const attend = (plans: AttentionPlans, tokens: number, before: number) =>
    makeAttention(gpu, new AttentionKernels(shape, capabilities, null, plans), { tokens, before }, hold);
  const tilesStandard = planQueryTiles(shape, capabilities);
  const tilesTrials = () =>
    withStandard(tilesStandard, tilesCandidates(shape, capabilities)).map((plan) => ({
      plan,
      dispatches: attend({ tiles: plan }, sizes.chunk, 0),
    }));
  const tiles = only.includes("many queries") ? await choose("many queries", tilesStandard, tilesTrials()) : null;
  const usual = splitPlan({ shape }, capabilities);
  const piecesStandard: SplitSizes = { threads: usual.threads, longest: usual.longest };
  const fits = (plan: SplitSizes) => {
    const { threads, longest } = splitPlan({ shape }, capabilities, plan);
    return threads === plan.threads && longest === plan.longest;
  };
  const piecesTrials = () =>
    withStandard(piecesStandard, PIECES_CANDIDATES.filter(fits)).map((plan) => ({
      plan,
      dispatches: attend({ pieces: plan }, 1, sizes.context - 1),
    }));
  const pieces = only.includes("one query") ? await choose("one query", piecesStandard, piecesTrials()) : null;
  const tuning: Tuning = {
    ...UNTUNED,
    products,
    tiles: tiles ? { [of]: tiles } : {},
    pieces: pieces ? { [of]: pieces } : {},
  };
  return { tuning, results };
}

function withStandard<Plan extends object>(standard: Plan, candidates: readonly Plan[]): readonly Plan[] {
  return candidates.some((plan) => samePlan(plan, standard)) ? candidates : [standard, ...candidates];
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
function makeProduct(
  gpu: Gpu,
  of: ProductClass,
  { rows, columns, chunk }: TuneSizes,
  hold: (slice: GpuSlice) => GpuSlice,
): Product {
  const packed = of.endsWith("packed");
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
  hold(matrix.codes);
  if (matrix.scales) hold(matrix.scales);
  return {
    matrix,
    tokens,
    input: hold(gpu.allocate(4 * tokens * columns, "test")),
    output: hold(gpu.allocate(4 * tokens * rows, "test")),
    outputStride: rows,
  };
}

/** Causal attention of `tokens` queries after `before` others. */
function makeAttention(
  gpu: Gpu,
  kernels: AttentionKernels,
  { tokens, before }: { readonly tokens: number; readonly before: number },
  hold: (slice: GpuSlice) => GpuSlice,
): Dispatch[] {
  const { shape } = kernels;
  const total = tokens + before;
  const table = makeTable(new Float64Array(shape.pairs), 1);
  const position = { queryPosition: TEXT_POSITION, keyPosition: TEXT_POSITION };
  const everything = { from: 0, to: Infinity };
  const plan: AttentionPlan = { segments: [{ tokens: everything, table, ...position, band: everything }] };
  const slots = new SlotMap({ capacity: total, pinned: total });
  slots.append(total);
  const { stride, places, groups } = cacheShape(shape, total, 1, gpu.capabilities);
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
  const allocate = (bytes: number) => hold(gpu.allocate(bytes, "test"));
  const uploaded = hold(gpu.upload(tables.bytes, "test"));
  return kernels.attend({
    tables,
    uploaded,
    queries: allocate(queryBytes(shape, tables.queryRotations, tokens)),
    cache: {
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
    parts: allocate(partBytes(shape, tables.path === "split" ? tables.workCount : 1)),
  });
}

function words(plan: object): string {
  return Object.entries(plan)
    .map(([name, value]) => (name === "path" ? String(value) : `${name} ${String(value)}`))
    .join(" ");
}
