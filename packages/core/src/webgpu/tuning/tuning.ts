import { LongctxError } from "../../common/errors.ts";
import type { TensorType } from "../../model/weights.ts";
import { equalSubgroups, type Capabilities } from "../device/kernel.ts";
import type { BroadcastTilePlan } from "../attention/attention-broadcast.ts";
import { groupOf, quadsOf, type AttentionShape } from "../attention/attention-shape.ts";
import type { SplitSizes } from "../attention/attention-split.ts";
import type { TiledPlan } from "../attention/attention-tiled.ts";
import type { BroadcastPlan } from "../products/product-broadcast.ts";
import type { RowPlan } from "../products/product-row.ts";
import { tileMemory, type TilePlan } from "../products/product-tile.ts";
import { multipliesHalves } from "../products/product-tiled.ts";

/** Which of the kernels of products, and how. */
export type ProductPlan =
  | ({ readonly path: "rows" } & RowPlan)
  | ({ readonly path: "tiles" } & TilePlan)
  | ({ readonly path: "broadcast" } & BroadcastPlan);

/** Which of the kernels of attention for many queries, and how. */
export type QueryTilesPlan =
  | ({ readonly path: "tiles" } & TiledPlan)
  | ({ readonly path: "broadcast" } & BroadcastTilePlan);

/** `fast`: of models opened with that precision, where the device multiplies halves; else they have the others' plans. */
export const PRODUCT_CLASSES = [
  "one row, plain",
  "one row, packed",
  "many rows, plain",
  "many rows, packed",
  "many rows, plain, fast",
  "many rows, packed, fast",
] as const;
export type ProductClass = (typeof PRODUCT_CLASSES)[number];

/** Plans that were measured to be faster on one adapter than those that kernels choose; what is absent stays theirs. */
export interface Tuning {
  readonly products: Readonly<Partial<Record<ProductClass, ProductPlan>>>;
  /** By `attentionClass`: tiles of many queries, and pieces of what few queries see. */
  readonly tiles: Readonly<Record<string, QueryTilesPlan>>;
  readonly pieces: Readonly<Record<string, SplitSizes>>;
}

/** Rows of the input from which on a tuned plan for many is taken; fewer leave most of a tile idle. */
const MANY = 64;

/** Null for a few rows, which are not tuned. `halves`: whether they may be multiplied. */
export function productClass(type: TensorType, tokens: number, halves: boolean): ProductClass | null {
  const kind = type.startsWith("Q") ? "packed" : "plain";
  if (tokens === 1) return `one row, ${kind}`;
  if (tokens < MANY) return null;
  return halves ? `many rows, ${kind}, fast` : `many rows, ${kind}`;
}

/** What changes the speed of attention beside the adapter. */
export function attentionClass(shape: AttentionShape): string {
  return `${shape.headSize} channels, ${groupOf(shape)} ${groupOf(shape) === 1 ? "head" : "heads"} a key, ${shape.storage}`;
}

/** Plans worth a measurement on a device, none where it lacks what the class needs; each gives right results there. */
export function productCandidates(of: ProductClass, capabilities: Capabilities): readonly ProductPlan[] {
  const { software, maxInvocations, maxWorkgroupMemory } = capabilities;
  const lanes = equalSubgroups(capabilities);
  if (of.startsWith("one")) {
    if (software)
      return [1, 2, 4].map((rows) => {
        const plan = { path: "rows", lanes: 1, teams: lanes ?? 8, rows, tokens: 1, unit: "block" } as const;
        return lanes ? { ...plan, broadcast: lanes } : plan;
      });
    return [16, 32, 64].flatMap((wide) =>
      [1, 2, 4].flatMap((rows) =>
        (["block", "quarter"] as const).map(
          (unit) => ({ path: "rows", lanes: wide, teams: 128 / wide, rows, tokens: 1, unit }) as const,
        ),
      ),
    );
  }
  const halves = of.endsWith("fast");
  if (halves && !multipliesHalves("fast", capabilities)) return [];
  if (software && lanes)
    return [
      [2, 2],
      [2, 4],
      [4, 2],
    ].map(([rows, eights]) => ({ path: "broadcast", lanes, rows, tokens: (8 / lanes) * eights }) as const);
  const sides = [
    [16, 4, 2],
    [16, 4, 4],
    [16, 4, 8],
    [16, 8, 4],
    [8, 8, 4],
    [8, 8, 8],
  ] as const;
  return sides
    .map(([side, wide, tall]) => ({ side, wide, tall }))
    .flatMap((plan): TilePlan[] => (halves ? [plan, { ...plan, half: true }] : [plan]))
    .filter((plan) => plan.side ** 2 <= maxInvocations && tileMemory(plan) <= maxWorkgroupMemory)
    .map((plan) => ({ path: "tiles", ...plan }));
}

export function tilesCandidates(shape: AttentionShape, capabilities: Capabilities): readonly QueryTilesPlan[] {
  const { software, maxInvocations, maxWorkgroupMemory } = capabilities;
  const lanes = equalSubgroups(capabilities);
  if (software && lanes)
    return [
      [1, 2],
      [2, 2],
      [2, 4],
    ].map(([queries, eights]) => ({ path: "broadcast", lanes, queries, keys: (8 / lanes) * eights }) as const);
  const own = [32, 64, 128].flatMap((rows) => [8, 16, 32].map((keys) => ({ path: "tiles", rows, keys }) as const));
  const shared = [2, 4, 8].flatMap((each) =>
    [32, 64].flatMap((rows) => [4, 6, 8, 12].map((keys) => ({ path: "tiles", rows, keys, lanes: each }) as const)),
  );
  return [...own, ...shared].filter((plan: { rows: number; keys: number; lanes?: number }) => {
    const { rows, keys, lanes: each = 1 } = plan;
    return rows * each <= maxInvocations && keys * tileBytes(shape, rows, each) <= maxWorkgroupMemory;
  });
}

/** Workgroup memory that a key and its value take with the scores of a tile's queries. */
export function tileBytes(shape: AttentionShape, rows: number, lanes = 1): number {
  return 2 * 16 * quadsOf(shape) + 4 * rows * lanes + 4;
}

export const PIECES_CANDIDATES: readonly SplitSizes[] = [64, 128, 256].flatMap((threads) =>
  [128, 256, 512].map((longest) => ({ threads, longest })),
);

/** Where a tuning comes from. */
export interface TuningSource {
  /** What `longctx tune` stored for an adapter, by its id; null where there is nothing. */
  readonly tuning?: (adapter: string) => unknown;
  /** Is told in one line why a tuning is not used; without it an unusable one is an error. */
  readonly onTuningProblem?: (problem: string) => void;
}

/** The stored tuning of an adapter. @throws LongctxError "device" when it cannot be used and nobody wants to be told */
export async function tuningOf(
  { tuning, onTuningProblem }: TuningSource,
  id: string,
  capabilities: Capabilities,
): Promise<Tuning | undefined> {
  try {
    const stored = await tuning?.(id);
    return stored === undefined || stored === null ? undefined : parseTuning(stored, id, capabilities);
  } catch (error) {
    if (!onTuningProblem) throw error;
    onTuningProblem(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

const FORMAT = "longctx-tuning";
const VERSION = 1;

/** What is stored of a tuning. */
export function tuningRecord(adapter: string, tuning: Tuning): Readonly<Record<string, unknown>> {
  return { format: FORMAT, version: VERSION, adapter, ...tuning };
}

/**
 * Reads `tuningRecord` back. Only plans that are candidates on this device are taken, so nothing that a file says can
 * give wrong results. @throws LongctxError "device" for another adapter's, or for what is no tuning
 */
export function parseTuning(value: unknown, adapter: string, capabilities: Capabilities): Tuning {
  const refuse = (why: string): never => {
    throw new LongctxError("device", `The stored tuning of WebGPU kernels ${why}; run \`longctx tune\` again.`);
  };
  if (!isRecord(value) || value["format"] !== FORMAT) return refuse("is not one that longctx wrote");
  if (value["version"] !== VERSION) return refuse(`has version ${String(value["version"])}, not ${VERSION}`);
  if (value["adapter"] !== adapter) return refuse(`is that of ${String(value["adapter"])}, not of ${adapter}`);
  const section = (name: keyof Tuning) => {
    const found = value[name];
    return isRecord(found) ? Object.entries(found) : refuse(`has no ${name}`);
  };
  const known = <T>(name: string, plan: unknown, candidates: readonly T[]): T =>
    candidates.find((candidate) => samePlan(candidate, plan)) ??
    refuse(`has a plan for "${name}" that this version does not try on this adapter`);
  const products: Partial<Record<ProductClass, ProductPlan>> = {};
  for (const [name, plan] of section("products")) {
    const of = PRODUCT_CLASSES.find((one) => one === name) ?? refuse(`names products "${name}"`);
    products[of] = known(name, plan, productCandidates(of, capabilities));
  }
  // Which shape a class is of is known when a model comes, and whether a plan fits it; see `tunedTiles`.
  const pick = <T>(name: keyof Tuning, candidates: readonly T[]) =>
    Object.fromEntries(section(name).map(([of, plan]) => [of, known(of, plan, candidates)]));
  const smallest: AttentionShape = { queryHeads: 1, keyHeads: 1, headSize: 4, pairs: 0, storage: "f32" };
  return {
    products,
    tiles: pick("tiles", tilesCandidates(smallest, capabilities)),
    pieces: pick("pieces", PIECES_CANDIDATES),
  };
}

/** The tuned plan for a shape, when there is one and it fits. */
export function tunedTiles(shape: AttentionShape, capabilities: Capabilities): QueryTilesPlan | undefined {
  const plan = capabilities.tuning?.tiles[attentionClass(shape)];
  return plan && tilesCandidates(shape, capabilities).find((candidate) => samePlan(candidate, plan));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Equal names with equal values. */
export function samePlan(a: unknown, b: unknown): boolean {
  if (!isRecord(a) || !isRecord(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
