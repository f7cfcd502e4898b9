import type { Draw } from "../../text/sampling.ts";
import type { Capabilities, Dispatch, GpuSlice, Kernel } from "../device/kernel.ts";
import { NO_TOKEN } from "./argmax.ts";
import { declareKernel, memoised } from "../device/declare.ts";
import { BINS, MOST_LISTED, sampleFunctions, type SampleSizes } from "./sample-functions.ts";

const kernelOf = memoised(sampleKernel);

const LEAST = "-3.4028234e38";
const [CUT_BY_COUNT, CUT_BY_SHARE, DRAW] = ["0u", "1u", "2u"];

/**
 * Draws a token from logits [V] as core's sampler does for the same uniform number: filters in transformers' order, the
 * likeliest tokens first where top-k or top-p cut, else by ids. One workgroup.
 *
 * Nothing is sorted. A cut, and the draw too, is the place in the order of falling logits where a sum (of tokens, or of
 * their probabilities) passes a target; it is found by four bits of the logit at a time, from the highest on, with the
 * sums of 16 bins. What a cut leaves is listed where it is little, and gone over alone from then on. Equal logits are equally likely, so the place among them is a division, and their order that of ids.
 */
export function sampleKernel({ penalty }: { readonly penalty: boolean }, sizes: SampleSizes): Kernel {
  const { size: SIZE, loads } = sizes;
  return declareKernel({
    name: ["sample", ...(penalty ? ["with penalty"] : []), SIZE, loads].join(" "),
    storage: [
      ["logits", "f32", "read"],
      ["result", "u32", "write"],
      ...(penalty ? ([["seen", "u32", "read"]] as const) : []),
    ],
    uniforms: {
      count: "u32",
      result_offset: "u32",
      top_k: "u32",
      top_p: "f32",
      min_p: "f32",
      temperature: "f32",
      penalty: "f32",
      chance: "f32",
    },
    body: `
var<workgroup> sums: array<f32, ${BINS * SIZE}>;
var<workgroup> totals: array<f32, ${BINS}>;
var<workgroup> found: u32;
// Ids of the tokens that are kept, in order, once they are known to be few.
var<workgroup> list: array<u32, ${MOST_LISTED}>;
var<private> listed: u32;
// Tokens above the cut, or at it and not behind the last id, are kept.
var<private> cut: u32;
var<private> last_id: u32;
var<private> top: f32;

fn logit_of(id: u32) -> f32 {
  var logit = logits[id];
  ${
    penalty
      ? `if (((seen[id / 32u] >> (id % 32u)) & 1u) == 1u) {
    logit = select(logit * uniforms.penalty, logit / uniforms.penalty, logit > 0.0);
  }`
      : ""
  }
  return select(logit, 0.0, logit == 0.0);
}

${sampleFunctions(sizes)}
@compute @workgroup_size(${SIZE})
fn main(@builtin(local_invocation_index) own: u32) {
  cut = 0u;
  listed = 0u;
  last_id = ${NO_TOKEN}u;
  top = ${LEAST};
  for (var id = own; id < uniforms.count; id += ${SIZE}u) {
    top = max(top, logit_of(id));
  }
  sums[own] = top;
  workgroupBarrier();
  for (var reach = ${SIZE / 2}u; reach > 0u; reach /= 2u) {
    if (own < reach) {
      sums[own] = max(sums[own], sums[own + reach]);
    }
    workgroupBarrier();
  }
  top = sums[0];
  workgroupBarrier();
  if (own == 0u) {
    found = 0u;
  }
  // Two cuts and the draw are the same search; written out once, the code is compiled three times as fast.
  for (var step = ${CUT_BY_COUNT}; step <= ${DRAW}; step++) {
    let counts = step == ${CUT_BY_COUNT};
    let draws = step == ${DRAW};
    let cut_by_count = uniforms.top_k > 0u && uniforms.top_k < uniforms.count;
    if ((counts && !cut_by_count)
      || (step == ${CUT_BY_SHARE} && uniforms.top_p >= 1.0)) {
      continue;
    }
    let least_weight = select(0.0, uniforms.min_p, draws);
    var passed = f32(uniforms.top_k) - 0.5;
    if (!counts) {
      passed = select(uniforms.top_p, uniforms.chance, draws) * mass_of(least_weight, own);
    }
    if (draws && uniforms.top_k == 0u && uniforms.top_p >= 1.0) {
      draw_by_id(passed, own);
      break;
    }
    let place = place_of(passed, !counts, least_weight, own);
    let weight = select(weight_of(logit_at(place.key)), 1.0, counts);
    let last = nth_of(place.key, floor(max(passed - place.above, 0.0) / weight), own);
    if (!draws) {
      last_id = last;
      cut = place.key;
      if (counts || !cut_by_count) {
        list_kept(own);
      }
    }
  }
  workgroupBarrier();
  if (own == 0u) {
    // A largest logit that is no number leaves nothing to draw from.
    result[uniforms.result_offset] = select(${NO_TOKEN}u, found, top > ${LEAST} && top < 3.4028234e38);
  }
}
`,
  });
}

type Room = Pick<Capabilities, "software" | "maxInvocations" | "maxWorkgroupMemory">;

/** More invocations where a workgroup has the memory, and several logits on their way at once, which processors fetch in no time. */
export function sampleSizes({ software, maxInvocations, maxWorkgroupMemory }: Room): SampleSizes {
  const wide = !software && maxInvocations >= 256 && maxWorkgroupMemory >= 4 * (256 * BINS + MOST_LISTED + 2 * BINS);
  return { size: wide ? 256 : 128, loads: software ? 1 : 4 };
}

/** To be compiled ahead. */
export function sampleKernels(capabilities: Room): Kernel[] {
  return [false, true].map((penalty) => kernelOf({ penalty }, sampleSizes(capabilities)));
}

export interface Sample {
  /** [V] */
  readonly logits: GpuSlice;
  /** V. */
  readonly size: number;
  readonly draw: Omit<Draw, "text">;
  /** Where the id goes, or `NO_TOKEN` when the logits are no numbers. */
  readonly result: GpuSlice;
  /** Words before it, where several draws share a buffer. */
  readonly resultOffset?: number;
  /** A bit for each id of the text (`seenBits`); needed with a repetition penalty. */
  readonly seen?: GpuSlice;
}

/** A temperature of 0 takes the likeliest, which is what top-k with k = 1 does (`argmax` is faster without a penalty). */
export function sample(
  { logits, size, draw, result, resultOffset = 0, seen }: Sample,
  capabilities: Room,
  sizes = sampleSizes(capabilities),
): Dispatch {
  const { topK, topP, minP, temperature, repetitionPenalty, uniform } = draw;
  if (repetitionPenalty !== 1 && !seen) throw new Error("A repetition penalty needs the ids of the text.");
  const greedy = temperature === 0;
  return {
    kernel: kernelOf({ penalty: seen !== undefined }, sizes),
    buffers: seen ? [logits, result, seen] : [logits, result],
    uniforms: [
      size,
      resultOffset,
      greedy ? 1 : Math.min(topK, size),
      // Rounded to 1, it would not put the likeliest tokens first.
      topP < 1 ? Math.min(topP, 1 - 2 ** -24) : 1,
      minP,
      greedy ? 1 : Math.min(Math.max(temperature, 1e-30), 1e30),
      repetitionPenalty,
      uniform,
    ],
    workgroups: [1, 1, 1],
  };
}

/** Bit i of word i / 32 is set for every id of the text. */
export function seenBits(ids: Iterable<number>, vocabSize: number): Uint32Array<ArrayBuffer> {
  const bits = new Uint32Array(Math.ceil(vocabSize / 32));
  for (const id of ids) bits[id >> 5] |= 1 << (id & 31);
  return bits;
}
