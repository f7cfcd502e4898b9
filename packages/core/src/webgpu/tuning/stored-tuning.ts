import { LongctxError } from "../../common/errors.ts";
import type { AttentionShape } from "../attention/attention-shape.ts";
import { PIECES_CANDIDATES, tilesCandidates } from "../attention/attention-tilings.ts";
import type { Capabilities } from "../device/kernel.ts";
import { PRODUCT_CLASSES, sameTiling, type ProductClass, type ProductTiling, type Tuning } from "../device/tilings.ts";
import { productCandidates } from "../products/product-path.ts";

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

/** A tiling as files and people read it: the size of a team, and of a subgroup, is called `lanes`. */
export function storedTiling(tiling: object): Readonly<Record<string, unknown>> {
  const nameOf = (name: string) => (name === "teamSize" || name === "subgroupSize" ? "lanes" : name);
  return Object.fromEntries(Object.entries(tiling).map(([name, value]) => [nameOf(name), value]));
}

/** What is stored of a tuning. */
export function tuningRecord(adapter: string, tuning: Tuning): Readonly<Record<string, unknown>> {
  const stored = (tilings: Readonly<Record<string, object | undefined>>) =>
    Object.fromEntries(Object.entries(tilings).map(([of, tiling]) => [of, tiling && storedTiling(tiling)]));
  const { products, tiles, pieces } = tuning;
  return {
    format: FORMAT,
    version: VERSION,
    adapter,
    products: stored(products),
    tiles: stored(tiles),
    pieces: stored(pieces),
  };
}

/**
 * Reads `tuningRecord` back. Only tilings that are candidates on this device are taken, so nothing that a file says can
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
  const known = <T extends object>(name: string, tiling: unknown, candidates: readonly T[]): T =>
    candidates.find((candidate) => isRecord(tiling) && sameTiling(storedTiling(candidate), tiling)) ??
    refuse(`has a plan for "${name}" that this version does not try on this adapter`);
  const products: Partial<Record<ProductClass, ProductTiling>> = {};
  for (const [name, tiling] of section("products")) {
    const of = PRODUCT_CLASSES.find((one) => one === name) ?? refuse(`names products "${name}"`);
    products[of] = known(name, tiling, productCandidates(of, capabilities));
  }
  // Which shape a class is of is known when a model comes, and whether a tiling fits it; see `attentionTiling`.
  const pick = <T extends object>(name: keyof Tuning, candidates: readonly T[]) =>
    Object.fromEntries(section(name).map(([of, tiling]) => [of, known(of, tiling, candidates)]));
  const smallest: AttentionShape = { queryHeads: 1, keyHeads: 1, headSize: 4, pairs: 0, storage: "f32" };
  return {
    products,
    tiles: pick("tiles", tilesCandidates(smallest, capabilities)),
    pieces: pick("pieces", PIECES_CANDIDATES),
  };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
