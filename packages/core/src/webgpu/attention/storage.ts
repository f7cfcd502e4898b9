/** How keys and values are kept: as computed, or rounded to 16 bits, which needs no feature of the device. */
export type Storage = "f32" | "f16";

/** Declares keys or values and how four channels of them are read, and written where the binding allows it, with `halvesCode`. */
export function storageCode(name: "keys" | "values", binding: number, use: "read" | "write", storage: Storage): string {
  const f16 = storage === "f16";
  const title = name === "keys" ? "Keys" : "Values";
  const access = use === "read" ? "read" : "read_write";
  const read = f16 ? `vec4f(unpack2x16float(${name}[at].x), unpack2x16float(${name}[at].y))` : `${name}[at]`;
  return `@group(0) @binding(${binding}) var<storage, ${access}> ${name}: array<${f16 ? "vec2u" : "vec4f"}>;
fn read${title}(at: u32) -> vec4f { return ${read}; }
${use === "read" ? "" : `fn write${title}(at: u32, quad: vec4f) { ${name}[at] = ${f16 ? "halvesOf(quad)" : "quad"}; }\n`}`;
}

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
