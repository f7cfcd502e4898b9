import { within, type AttentionPlan, type Interval } from "../../method/plan.ts";
import type { Lane } from "../../state/lanes.ts";
import type { AttentionMass } from "../state/attention-mass.ts";

/**
 * Splits the segments of a plan at the band of distances whose attention mass is counted, so that all that a lane shows to
 * any query is either in the band or not.
 */
export function splitByBand(plan: AttentionPlan, width: number): AttentionPlan {
  if (width === 0) return plan;
  const bands: Interval[] = [
    { from: -Infinity, to: 0 },
    { from: 0, to: width },
    { from: width, to: Infinity },
  ];
  const segments = plan.segments.flatMap((segment) =>
    bands.map((band) => within(segment, band)).filter((one) => one !== null),
  );
  return { ...plan, segments };
}

/** Adds a key head's sums of probabilities, in the order of the lanes' tokens, to the tokens of lanes within the band. */
export function addMasses(
  mass: AttentionMass,
  lanes: readonly Lane[],
  head: number,
  sums: Float32Array,
  width: number,
): void {
  let at = 0;
  for (const lane of lanes) {
    const own = sums.subarray(at, (at += lane.width));
    const { from, to } = lane.segment.band;
    if (from < 0 || to > width) continue;
    if (!lane.tokens) mass.add(lane.token, head, own);
    else lane.tokens.forEach((token, i) => mass.add(token, head, own.subarray(i, i + 1)));
  }
}
