import { quadsOf, type AttentionShape } from "../attention/attention-shape.ts";
import { storageCode } from "../attention/storage.ts";
import { RING_SLOT } from "../attention/token-slots.ts";
import { workgroupEntry } from "../device/declare.ts";
import type { Kernel } from "../device/kernel.ts";
import { BLOCK_UNIFORMS } from "./block-means.ts";

/** Invocations of a workgroup, at least as many as a key has vectors of four channels. */
export function salientThreads(shape: AttentionShape): number {
  return Math.max(64, 2 ** Math.ceil(Math.log2(quadsOf(shape))));
}

/**
 * Means of the keys of a block that have the largest attention mass, of equal masses those of the smaller tokens (Xiao et
 * al. 2024, arXiv:2402.04617, section 3.2). A workgroup has a block and a key head; it takes one key after another, each
 * the first behind the last one taken in the order of masses. `choose` of the reference judges it.
 *
 *     keys [K, places, stride, D], the copy without rotation, mass [tokens, K] → means [blocks, K, D]
 */
export function salientMeansKernel(shape: AttentionShape): Kernel {
  const { storage } = shape;
  const threads = salientThreads(shape);
  const name = ["salient-means", storage, threads].join(" ");
  const code = `// ${name}
const THREADS = ${threads}u;
struct Uniforms {
  units: u32, taken: u32, ${BLOCK_UNIFORMS.fields},
}

${storageCode("keys", 0, "read", storage)}@group(0) @binding(1) var<storage, read> mass: array<f32>;
@group(0) @binding(2) var<storage, read_write> means: array<vec4f>;
@group(0) @binding(3) var<uniform> uniforms: Uniforms;

/** A token of the block, by its mass and its place; masses are not negative. */
struct Candidate { mass: f32, place: u32 }
var<workgroup> masses: array<f32, THREADS>;
var<workgroup> ownPlaces: array<u32, THREADS>;

${RING_SLOT}
fn isAhead(a: Candidate, b: Candidate) -> bool {
  return a.mass > b.mass || (a.mass == b.mass && a.place < b.place);
}

// A unit is a block and a key head of the buffer.
${workgroupEntry({ threads, unit: "unit", of: "units", invocation: "local" })}
  let head = unit % uniforms.heads; // in the buffer
  let block = uniforms.firstBlock + unit / uniforms.heads;
  let token = uniforms.begin + block * uniforms.size;
  let base = (head * uniforms.places + uniforms.place) * uniforms.stride;
  var sum = vec4f();
  var last = Candidate(0.0, 0u);
  for (var i = 0u; i < uniforms.taken; i++) {
    var best = Candidate(-1.0, uniforms.size);
    for (var place = local; place < uniforms.size; place += THREADS) {
      let one = Candidate(mass[(token + place) * uniforms.keyHeads + uniforms.firstHead + head], place);
      if ((i == 0u || isAhead(last, one)) && isAhead(one, best)) { best = one; }
    }
    masses[local] = best.mass;
    ownPlaces[local] = best.place;
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
      if (local < step) {
        let other = Candidate(masses[local + step], ownPlaces[local + step]);
        if (isAhead(other, Candidate(masses[local], ownPlaces[local]))) {
          masses[local] = other.mass;
          ownPlaces[local] = other.place;
        }
      }
      workgroupBarrier();
    }
    last = Candidate(masses[0], ownPlaces[0]);
    workgroupBarrier();
    if (local < uniforms.quads) {
      sum += readKeys((base + ringSlot(token + last.place)) * uniforms.quads + local);
    }
  }
  if (local < uniforms.quads) {
    means[(block * uniforms.keyHeads + uniforms.firstHead + head) * uniforms.quads + local] = sum / f32(uniforms.taken);
  }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "write"],
    uniforms: ["u32", "u32", ...BLOCK_UNIFORMS.types],
    features: [],
  };
}
