const BYTES: Readonly<Record<string, number>> = {
  f32: 4,
  i32: 4,
  u32: 4,
  "atomic<u32>": 4,
  vec4f: 16,
  "vec4<f32>": 16,
  "vec4<f16>": 8,
};

/** Bytes of workgroup memory that a kernel's code declares, products of numbers and constants as lengths. */
export function workgroupMemory(code: string): number {
  const constants = new Map([...code.matchAll(/^const (\w+) = (\d+)u;/gm)].map(([, name, value]) => [name, value]));
  const numberOf = (factor: string) => Number.parseInt(constants.get(factor) ?? factor, 10);
  let bytes = 0;
  for (const [, name, type] of code.matchAll(/var<workgroup> (\w+): (.+);/g)) {
    const [, element, length] = /^array<(.+), (.+)>$/.exec(type) ?? [type, type, "1"];
    const size = length.split(" * ").map(numberOf).reduce((a, b) => a * b, BYTES[element]); // prettier-ignore
    if (!Number.isSafeInteger(size)) throw new Error(`How large is ${name}: ${type}?`);
    bytes += size;
  }
  return bytes;
}
