import { equalSubgroups, type Capabilities } from "../device/kernel.ts";
import { sameTiling, type AttentionTiling, type SplitSizes } from "../device/tilings.ts";
import { broadcastQueryTiling } from "./attention-broadcast.ts";
import { attentionClass, type AttentionShape } from "./attention-shape.ts";
import { queryTiling, tileBytes } from "./attention-tiled.ts";

/** The tiling of attention for many queries: the one measured to be the fastest on the adapter, else the standard one. */
export function attentionTiling(shape: AttentionShape, capabilities: Capabilities): AttentionTiling {
  const tuned = tunedTiles(shape, capabilities);
  if (tuned) return tuned;
  const broadcast = broadcastQueryTiling(capabilities);
  return broadcast ? { path: "broadcast", ...broadcast } : { path: "tiles", ...queryTiling({ shape }, capabilities) };
}

/** The tuned tiling for a shape, when there is one and it fits. */
function tunedTiles(shape: AttentionShape, capabilities: Capabilities): AttentionTiling | undefined {
  const tiling = capabilities.tuning?.tiles[attentionClass(shape)];
  return tiling && tilesCandidates(shape, capabilities).find((candidate) => sameTiling(candidate, tiling));
}

/** Tilings of attention for many queries that are worth a measurement on a device; each gives right results there. */
export function tilesCandidates(shape: AttentionShape, capabilities: Capabilities): readonly AttentionTiling[] {
  const { software, maxInvocations, maxWorkgroupMemory } = capabilities;
  const subgroupSize = equalSubgroups(capabilities);
  if (software && subgroupSize)
    return [
      [1, 2],
      [2, 2],
      [2, 4],
    ].map(
      ([queries, eights]) => ({ path: "broadcast", subgroupSize, queries, keys: (8 / subgroupSize) * eights }) as const,
    );
  const own = [32, 64, 128].flatMap((rows) => [8, 16, 32].map((keys) => ({ path: "tiles", rows, keys }) as const));
  const shared = [2, 4, 8].flatMap((each) =>
    [32, 64].flatMap((rows) => [4, 6, 8, 12].map((keys) => ({ path: "tiles", rows, keys, teamSize: each }) as const)),
  );
  return [...own, ...shared].filter((tiling: { rows: number; keys: number; teamSize?: number }) => {
    const { rows, keys, teamSize = 1 } = tiling;
    return rows * teamSize <= maxInvocations && keys * tileBytes(shape, rows, teamSize) <= maxWorkgroupMemory;
  });
}

/** Sizes of attention for few queries that are worth a measurement. */
export const PIECES_CANDIDATES: readonly SplitSizes[] = [64, 128, 256].flatMap((threads) =>
  [128, 256, 512].map((longest) => ({ threads, longest })),
);
