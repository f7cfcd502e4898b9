import type { SamplingOptions } from "../../sampling.ts";
import type { Dispatch, GpuSlice, Kernel } from "../kernel.ts";
import { NO_TOKEN } from "./argmax.ts";
import { declareKernel } from "./declare.ts";

const SIZE = 128;
const BINS = 16;
const LEAST = "-3.4028234e38";

/**
 * Draws a token from logits [V] as core's sampler does for the same uniform number: filters in transformers' order, the
 * likeliest tokens first where top-k or top-p cut, else by ids. One workgroup.
 *
 * Nothing is sorted. A cut, and the draw too, is the place in the order of falling logits where a sum (of tokens, or of
 * their probabilities) passes a target; it is found by four bits of the logit at a time, from the highest on, with the
 * sums of 16 bins. Equal logits are equally likely, so the place among them is a division, and their order that of ids.
 */
export function sampleKernel({ penalty }: { readonly penalty: boolean }): Kernel {
  return declareKernel({
    name: penalty ? "sample with penalty" : "sample",
    storage: [
      ["logits", "f32", "read"],
      ["result", "u32", "write"],
      ...(penalty ? ([["seen", "u32", "write"]] as const) : []),
    ],
    uniforms: {
      count: "u32",
      logits_offset: "u32",
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
// Tokens above the cut, or at it and not behind the last id, are kept.
var<private> cut: u32;
var<private> last_id: u32;
var<private> top: f32;

fn logit_of(id: u32) -> f32 {
  var logit = logits[uniforms.logits_offset + id];
  ${
    penalty
      ? `if (((seen[id / 32u] >> (id % 32u)) & 1u) == 1u) {
    logit = select(logit * uniforms.penalty, logit / uniforms.penalty, logit > 0.0);
  }`
      : ""
  }
  return select(logit, 0.0, logit == 0.0);
}

// Ordered as the logits are.
fn key_of(logit: f32) -> u32 {
  let bits = bitcast<u32>(logit);
  return select(~bits, bits | 0x80000000u, bits < 0x80000000u);
}

fn weight_of(logit: f32) -> f32 {
  let exponent = (logit - top) / uniforms.temperature;
  return select(exp(max(exponent, -80.0)), 0.0, exponent < -80.0);
}

fn is_kept(key: u32, id: u32) -> bool {
  return key > cut || (key == cut && id <= last_id);
}

struct Place { key: u32, above: f32 }

// Where the sum over kept tokens, of their probabilities or of ones, first exceeds the target.
fn place_of(passed: f32, by_weight: bool, least_weight: f32, own: u32) -> Place {
  var place = Place(0u, 0.0);
  for (var shift = 32u; shift > 0u; shift -= 4u) {
    for (var bin = 0u; bin < ${BINS}u; bin++) {
      sums[bin * ${SIZE}u + own] = 0.0;
    }
    for (var id = own; id < uniforms.count; id += ${SIZE}u) {
      let logit = logit_of(id);
      let key = key_of(logit);
      // Two shifts, since one by 32 is none.
      if (((key >> (shift - 4u)) >> 4u) == place.key && is_kept(key, id)) {
        let weight = weight_of(logit);
        if (weight >= least_weight) {
          sums[((key >> (shift - 4u)) & 15u) * ${SIZE}u + own] += select(1.0, weight, by_weight);
        }
      }
    }
    workgroupBarrier();
    if (own < ${BINS}u) {
      var total = 0.0;
      for (var i = 0u; i < ${SIZE}u; i++) {
        total += sums[own * ${SIZE}u + i];
      }
      totals[own] = total;
    }
    workgroupBarrier();
    // Where rounding leaves the target beyond the whole sum, the lowest bin that has something.
    var bin = 0u;
    var above = place.above;
    var sum = place.above;
    for (var i = 0u; i < ${BINS}u; i++) {
      let candidate = ${BINS - 1}u - i;
      if (totals[candidate] > 0.0) {
        bin = candidate;
        above = sum;
        sum += totals[candidate];
        if (sum > passed) {
          break;
        }
      }
    }
    place = Place((place.key << 4u) | bin, above);
    workgroupBarrier();
  }
  return place;
}

// The ids in ranges, one for each invocation.
fn range_of(own: u32) -> vec2<u32> {
  let size = (uniforms.count + ${SIZE - 1}u) / ${SIZE}u;
  return min(vec2<u32>(own, own + 1u) * size, vec2<u32>(uniforms.count));
}

// What the sums before the invocation's own make, if the place asked for lies in its own, else -1.
fn is_mine(passed: f32, own: u32) -> f32 {
  workgroupBarrier();
  if (own == 0u) {
    var before = 0.0;
    for (var i = 0u; i < ${SIZE}u; i++) {
      let sum = sums[i];
      sums[i] = before;
      before += sum;
    }
    sums[${SIZE}] = before;
  }
  workgroupBarrier();
  let begin = sums[own];
  let end = sums[own + 1u];
  // The last that has something also takes what rounding leaves beyond the whole.
  let mine = begin <= passed && begin < end && (passed < end || end == sums[${SIZE}]);
  workgroupBarrier();
  return select(-1.0, begin, mine);
}

// The id of the kept token with that key that has \`before\` others in front of it.
fn nth_of(key: u32, before: f32, own: u32) -> u32 {
  let range = range_of(own);
  var count = 0.0;
  for (var id = range.x; id < range.y; id++) {
    if (key_of(logit_of(id)) == key && is_kept(key, id)) {
      count += 1.0;
    }
  }
  sums[own] = count;
  var rest = is_mine(before, own);
  if (rest >= 0.0) {
    for (var id = range.x; id < range.y; id++) {
      if (key_of(logit_of(id)) == key && is_kept(key, id)) {
        rest += 1.0;
        found = id;
        if (rest > before) {
          break;
        }
      }
    }
  }
  workgroupBarrier();
  return found;
}

fn mass_of(least_weight: f32, own: u32) -> f32 {
  var sum = 0.0;
  for (var id = own; id < uniforms.count; id += ${SIZE}u) {
    let logit = logit_of(id);
    if (is_kept(key_of(logit), id)) {
      let weight = weight_of(logit);
      sum += select(0.0, weight, weight >= least_weight);
    }
  }
  sums[own] = sum;
  workgroupBarrier();
  for (var reach = ${SIZE / 2}u; reach > 0u; reach /= 2u) {
    if (own < reach) {
      sums[own] += sums[own + reach];
    }
    workgroupBarrier();
  }
  let total = sums[0];
  workgroupBarrier();
  return total;
}

fn draw_by_id(passed: f32, own: u32) {
  let range = range_of(own);
  var sum = 0.0;
  for (var id = range.x; id < range.y; id++) {
    let weight = weight_of(logit_of(id));
    if (weight >= uniforms.min_p) {
      sum += weight;
    }
  }
  sums[own] = sum;
  var rest = is_mine(passed, own);
  if (rest >= 0.0) {
    for (var id = range.x; id < range.y; id++) {
      let weight = weight_of(logit_of(id));
      if (weight >= uniforms.min_p) {
        rest += weight;
        found = id;
        if (rest > passed) {
          break;
        }
      }
    }
  }
  workgroupBarrier();
}

@compute @workgroup_size(${SIZE})
fn main(@builtin(local_invocation_index) own: u32) {
  cut = 0u;
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
  if (uniforms.top_k > 0u && uniforms.top_k < uniforms.count) {
    let place = place_of(f32(uniforms.top_k) - 0.5, false, 0.0, own);
    last_id = nth_of(place.key, f32(uniforms.top_k) - place.above - 1.0, own);
    cut = place.key;
  }
  if (uniforms.top_p < 1.0) {
    let share = uniforms.top_p * mass_of(0.0, own);
    let place = place_of(share, true, 0.0, own);
    let weight = weight_of(logit_at(place.key));
    let last = nth_of(place.key, floor(max(share - place.above, 0.0) / weight), own);
    last_id = last;
    cut = place.key;
  }
  if (uniforms.top_k > 0u || uniforms.top_p < 1.0) {
    let passed = uniforms.chance * mass_of(uniforms.min_p, own);
    let place = place_of(passed, true, uniforms.min_p, own);
    let weight = weight_of(logit_at(place.key));
    let drawn = nth_of(place.key, floor(max(passed - place.above, 0.0) / weight), own);
    workgroupBarrier();
    if (own == 0u) {
      found = drawn;
    }
  } else {
    let passed = uniforms.chance * mass_of(uniforms.min_p, own);
    draw_by_id(passed, own);
  }
  workgroupBarrier();
  if (own == 0u) {
    // A largest logit that is no number leaves nothing to draw from.
    let id = select(${NO_TOKEN}u, found, top > ${LEAST} && top < 3.4028234e38);
    result[uniforms.result_offset] = id;
    ${
      penalty
        ? `if (id < uniforms.count) {
      seen[id / 32u] |= 1u << (id % 32u);
    }`
        : ""
    }
  }
}

fn logit_at(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}
`,
  });
}

export interface Sample {
  /** [V], from `logitsOffset` on; both offsets count words. */
  readonly logits: GpuSlice;
  readonly logitsOffset?: number;
  /** V. */
  readonly size: number;
  /** As core's sampler has them, with a temperature above 0 (`argmax` is for 0). */
  readonly options: SamplingOptions;
  /** From [0, 1). */
  readonly uniform: number;
  /** Where the id goes, or `NO_TOKEN` when the logits are no numbers. */
  readonly result: GpuSlice;
  readonly resultOffset?: number;
  /** A bit for each id of the text (`seenBits`), kept up to date; needed with a repetition penalty. */
  readonly seen?: GpuSlice;
}

export function sample(work: Sample): Dispatch {
  const { logits, logitsOffset = 0, size, options, uniform, result, resultOffset = 0, seen } = work;
  const { topK = 0, topP = 1, minP = 0, temperature = 0, repetitionPenalty = 1 } = options;
  if (!(temperature > 0)) throw new Error("A temperature of 0 is argmax.");
  if (repetitionPenalty !== 1 && !seen) throw new Error("A repetition penalty needs the ids of the text.");
  return {
    kernel: sampleKernel({ penalty: seen !== undefined }),
    buffers: seen ? [logits, result, seen] : [logits, result],
    uniforms: [size, logitsOffset, resultOffset, topK, topP, minP, temperature, repetitionPenalty, uniform],
    workgroups: [1, 1, 1],
  };
}

/** Bit i of word i / 32 is set for every id of the text. */
export function seenBits(ids: Iterable<number>, vocabSize: number): Uint32Array<ArrayBuffer> {
  const bits = new Uint32Array(Math.ceil(vocabSize / 32));
  for (const id of ids) bits[id >> 5] |= 1 << (id & 31);
  return bits;
}
