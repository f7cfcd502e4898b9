import type { Storage } from "./attention-shape.ts";

/**
 * `halvesOf(quad)`: four floats as halves of two words, rounded to the nearest and ties to even, the smallest halves kept;
 * for kernels that write keys or values of 16 bits. In integers, for how `pack2x16float` rounds is left to devices.
 */
export function halvesCode(storage: Storage): string {
  return storage === "f16" ? HALVES : "";
}

const HALVES = `
fn halvesOf(quad: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(clamp(quad, vec4f(-65504.0), vec4f(65504.0))); // the largest half
  let size = bits & vec4u(0x7fffffffu);
  let normal = (size - vec4u(0x38000000u) + vec4u(0xfffu) + ((size >> vec4u(13u)) & vec4u(1u))) >> vec4u(13u);
  // Below 2^-14 halves are multiples of 2^-24, which is what a sum with 1/2 is rounded to.
  let small = bitcast<vec4u>(bitcast<vec4f>(size) + vec4f(0.5)) - vec4u(0x3f000000u);
  let halves = select(normal, small, size < vec4u(0x38800000u)) | ((bits >> vec4u(16u)) & vec4u(0x8000u));
  return vec2u(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
}
`;
