import { each, lines } from "../device/declare.ts";

/** Bins of four bits. */
export const BINS = 16;
/** Tokens that fit a list of those that are kept. */
export const MOST_LISTED = 1024;

export interface SampleSizes {
  /** Invocations of the one workgroup. */
  readonly size: number;
  /** Logits that an invocation asks for at once. */
  readonly loads: number;
}

/**
 * What sampling is made of, for a kernel that declares `sums`, `totals`, `found`, `listed`, `list`, `cut`, `last_id`, `top`
 * and `logit_of`. All of it is called by all invocations together.
 */
export function sampleFunctions({ size: SIZE, loads }: SampleSizes): string {
  return `
// Ordered as the logits are.
fn key_of(logit: f32) -> u32 {
  let bits = bitcast<u32>(logit);
  return select(~bits, bits | 0x80000000u, bits < 0x80000000u);
}

fn logit_at(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

fn weight_of(logit: f32) -> f32 {
  let exponent = (logit - top) / uniforms.temperature;
  return select(exp(max(exponent, -80.0)), 0.0, exponent < -80.0);
}

fn is_kept(key: u32, id: u32) -> bool {
  return key > cut || (key == cut && id <= last_id);
}

struct Place { key: u32, above: f32 }

// Tokens are gone over in the order of their ids: all, or those of a list.
fn token_count() -> u32 {
  return select(uniforms.count, listed, listed > 0u);
}

fn id_at(i: u32) -> u32 {
  if (listed > 0u) {
    return list[i];
  }
  return i;
}

// Into the bin of its next four bits, if it agrees so far.
fn add_to_bin(id: u32, logit: f32, so_far: u32, shift: u32, by_weight: bool, least_weight: f32, own: u32) {
  let key = key_of(logit);
  // Two shifts, since one by 32 is none.
  if (((key >> (shift - 4u)) >> 4u) == so_far && is_kept(key, id)) {
    let weight = weight_of(logit);
    if (weight >= least_weight) {
      sums[((key >> (shift - 4u)) & 15u) * ${SIZE}u + own] += select(1.0, weight, by_weight);
    }
  }
}

// Where the sum over kept tokens, of their probabilities or of ones, first exceeds the target.
fn place_of(passed: f32, by_weight: bool, least_weight: f32, own: u32) -> Place {
  var place = Place(0u, 0.0);
  for (var shift = 32u; shift > 0u; shift -= 4u) {
    for (var bin = 0u; bin < ${BINS}u; bin++) {
      sums[bin * ${SIZE}u + own] = 0.0;
    }
    for (var i = own; i < token_count(); i += ${loads * SIZE}u) {
${lines(
  each(loads, (l) => [
    `      let id${l} = id_at(${l === 0 ? "i" : `min(i + ${l * SIZE}u, token_count() - 1u)`});`,
    `      let logit${l} = logit_of(id${l});`,
  ]).flat(),
  each(loads, (l) => {
    const add = `add_to_bin(id${l}, logit${l}, place.key, shift, by_weight, least_weight, own);`;
    return l === 0 ? `      ${add}` : `      if (i + ${l * SIZE}u < token_count()) { ${add} }`;
  }),
)}
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

// The tokens in ranges, one for each invocation.
fn range_of(own: u32) -> vec2<u32> {
  let size = (token_count() + ${SIZE - 1}u) / ${SIZE}u;
  return min(vec2<u32>(own, own + 1u) * size, vec2<u32>(token_count()));
}

// Makes of the sums those before each invocation's own, and behind them the whole.
fn sum_up(own: u32) {
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
}

// What the sums before the invocation's own make, if the place asked for lies in its own, else -1.
fn is_mine(passed: f32, own: u32) -> f32 {
  sum_up(own);
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
  for (var i = range.x; i < range.y; i++) {
    let id = id_at(i);
    if (key_of(logit_of(id)) == key && is_kept(key, id)) {
      count += 1.0;
    }
  }
  sums[own] = count;
  var rest = is_mine(before, own);
  if (rest >= 0.0) {
    for (var i = range.x; i < range.y; i++) {
      let id = id_at(i);
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

// Lists the tokens that are kept, where they fit a list: what comes then goes over them only. To be called once.
fn list_kept(own: u32) {
  let range = range_of(own);
  var count = 0.0;
  for (var id = range.x; id < range.y; id++) {
    count += select(0.0, 1.0, is_kept(key_of(logit_of(id)), id));
  }
  sums[own] = count;
  sum_up(own);
  var at = u32(sums[own]);
  let total = u32(sums[${SIZE}]);
  workgroupBarrier();
  let fits = total <= ${MOST_LISTED}u;
  if (fits && count > 0.0) {
    for (var id = range.x; id < range.y; id++) {
      if (is_kept(key_of(logit_of(id)), id)) {
        list[at] = id;
        at += 1u;
      }
    }
  }
  workgroupBarrier();
  listed = select(0u, total, fits);
}

fn mass_of(least_weight: f32, own: u32) -> f32 {
  var sum = 0.0;
  for (var i = own; i < token_count(); i += ${SIZE}u) {
    let id = id_at(i);
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
`;
}
