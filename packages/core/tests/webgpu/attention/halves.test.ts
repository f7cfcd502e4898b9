import { afterAll, expect, it } from "vitest";
import { uniformFloat64 } from "../../../src/common/random.ts";
import { declareKernel } from "../../../src/webgpu/device/declare.ts";
import { halvesCode } from "../../../src/webgpu/attention/storage.ts";
import { gpuOrNull } from "../device.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

/** The nearest half of a float, ties to even, as bits. */
function halfOf(value: number): number {
  const size = Math.min(Math.abs(value), 65504);
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  const steps = size / 2 ** (exponent - 10);
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1) ? 1 : 0;
  // Steps of a normal number begin with 1024, and 2048 are the first of the next exponent.
  return (below + up + (exponent + 14) * 1024) | (value < 0 || Object.is(value, -0) ? 0x8000 : 0);
}

it.skipIf(!gpu)("floats become the nearest halves, ties even ones and small ones too, on any device", async () => {
  const random = uniformFloat64(11);
  const some = Array.from({ length: 4000 }, () => (2 * random() - 1) * 2 ** Math.floor(42 * random() - 26));
  const edges = [0, 1, 2 ** -14, 2 ** -15, 2 ** -24, 2 ** -25, 65504, 65519, 65520, 1e9, 2048, 2047.5, 4095];
  // Half way between two halves, and a little to either side.
  const ties = Array.from({ length: 500 }, (_, i) => (1024.5 + 2 * i + (i % 2)) * 2 ** ((i % 28) - 24));
  const near = [...edges, ...ties].flatMap((edge) => [edge, edge * (1 + 2 ** -22), edge * (1 - 2 ** -22)]);
  const values = Float32Array.from([...some, ...near, ...near.map((edge) => -edge)]);
  const quads = Math.floor(values.length / 4);
  const kernel = declareKernel({
    name: "halves",
    storage: [
      ["input", "vec4f", "read"],
      ["output", "vec2u", "write"],
    ],
    uniforms: { quads: "u32" },
    body: `${halvesCode("f16")}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < uniforms.quads) { output[id.x] = halvesOf(input[id.x]); }
}`,
  });
  const output = gpu!.allocate(8 * quads, "test");
  const buffers = [gpu!.upload(values, "test"), output];
  await gpu!.run([{ kernel, buffers, uniforms: [quads], workgroups: [Math.ceil(quads / 64), 1, 1] }]);
  const bytes = await gpu!.read(output);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, 4 * quads);
  const wrong = Array.from(halves, (bits, i) => [values[i], bits, halfOf(values[i])]).filter(([, a, b]) => a !== b);
  expect(wrong).toEqual([]);
});
