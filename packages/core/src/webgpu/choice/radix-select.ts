/**
 * WGSL that chooses the blocks with the largest scores, of equal ones those with the smaller index, in ascending order: a
 * radix select over the bits of the scores, eight at a time, finds the smallest score that is taken, and a prefix sum over
 * ranges of blocks places those that are. One workgroup serves any number of blocks. Kernels bind `scores` and `chosen`.
 */

/** The invocations of a workgroup that selects, of which `own` is the index of each. */
export const SELECT_THREADS = 256;

export const SELECT_VARIABLES = `var<workgroup> bins: array<atomic<u32>, 256>;
// The leading bits of the smallest score that is taken, and how many blocks with such bits are taken.
var<workgroup> prefix: u32;
var<workgroup> rest: u32;
// Of each invocation's range, and then of all ranges before it: blocks above that score, and blocks at it.
var<workgroup> above: array<u32, ${SELECT_THREADS}>;
var<workgroup> equal: array<u32, ${SELECT_THREADS}>;
`;

/** `keyOf(block)` in WGSL, of the score at an index made of `block`. */
export function selectKey(index: string): string {
  return `/** Ordered as the scores are; 0 and -0 are equal. */
fn keyOf(block: u32) -> u32 {
  let score = scores[${index}];
  let bits = bitcast<u32>(select(score, 0.0, score == 0.0));
  return select(~bits, bits | 0x80000000u, bits < 0x80000000u);
}

`;
}

/** What a selection is given, as expressions that are the same in all invocations. */
export interface Selection {
  /** The number of blocks that have scores. */
  readonly blocks: string;
  /** How many of them are taken, at most as many as there are. */
  readonly count: string;
  /** The index in `chosen` where the blocks go. */
  readonly goal: string;
}

/** Statements that write `count` blocks to `chosen`. */
export function selectSteps({ blocks, count, goal }: Selection): string {
  return `  if (own == 0u) {
    prefix = 0u;
    rest = ${count};
  }
  for (var step = 0u; step < 4u; step++) {
    let shift = 24u - 8u * step;
    atomicStore(&bins[own], 0u);
    workgroupBarrier();
    for (var block = own; block < ${blocks}; block += ${SELECT_THREADS}u) {
      let key = keyOf(block);
      // Two shifts, since one by 32 is none.
      if (((key >> shift) >> 8u) == prefix) { atomicAdd(&bins[(key >> shift) & 255u], 1u); }
    }
    workgroupBarrier();
    if (own == 0u) {
      var left = rest;
      var bin = 255u;
      while (bin > 0u && atomicLoad(&bins[bin]) < left) {
        left -= atomicLoad(&bins[bin]);
        bin--;
      }
      rest = left;
      prefix = (prefix << 8u) | bin;
    }
    workgroupBarrier();
  }
  let least = prefix;
  let ties = rest;
  let range = (${blocks} + ${SELECT_THREADS - 1}u) / ${SELECT_THREADS}u;
  let begin = min(own * range, ${blocks});
  let end = min(begin + range, ${blocks});
  var larger = 0u;
  var same = 0u;
  for (var block = begin; block < end; block++) {
    let key = keyOf(block);
    larger += select(0u, 1u, key > least);
    same += select(0u, 1u, key == least);
  }
  above[own] = larger;
  equal[own] = same;
  workgroupBarrier();
  if (own == 0u) {
    var aboveBefore = 0u;
    var equalBefore = 0u;
    for (var i = 0u; i < ${SELECT_THREADS}u; i++) {
      let counts = vec2u(above[i], equal[i]);
      above[i] = aboveBefore;
      equal[i] = equalBefore;
      aboveBefore += counts.x;
      equalBefore += counts.y;
    }
  }
  workgroupBarrier();
  var ahead = equal[own];
  var place = above[own] + min(ahead, ties);
  for (var block = begin; block < end; block++) {
    let key = keyOf(block);
    if (key > least || (key == least && ahead < ties)) {
      chosen[${goal} + place] = block;
      place++;
    }
    ahead += select(0u, 1u, key == least);
  }
`;
}
