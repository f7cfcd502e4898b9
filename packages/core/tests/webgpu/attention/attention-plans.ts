import { makeTable, TEXT_POSITION, type FrequencyTable, type Segment } from "@longctx/core";
import type { AttentionShape } from "../../../src/webgpu/attention/attention-shape.ts";

export function shapeOf(changes: Partial<AttentionShape> = {}): AttentionShape {
  return { queryHeads: 3, keyHeads: 1, headSize: 8, pairs: 3, storage: "f32", ...changes };
}

export function tableOf(pairs: number, amplitude = 1): FrequencyTable {
  return makeTable(
    Float64Array.from({ length: pairs }, (_, i) => 0.9 * 0.3 ** i),
    amplitude,
  );
}

/** All tokens before and at the query. */
export function causal(table: FrequencyTable, changes: Partial<Segment> = {}): Segment {
  return {
    tokens: { from: 0, to: Infinity },
    table,
    queryPosition: TEXT_POSITION,
    keyPosition: TEXT_POSITION,
    band: { from: 0, to: Infinity },
    ...changes,
  };
}
