import type { Dispatch, Gpu, Kernel } from "@longctx/core/webgpu";

/** What an adapter reaches at best: GFLOP/s of products and sums in registers, GB/s of reading and of copying. */
export interface Ceilings {
  readonly gigaflops: number;
  readonly read: number;
  readonly copied: number;
}

const GROUPS = 512;
const SIZE = 64;
const CHAINS = 4;
const STEPS = 2048;
const BYTES = 2 ** 26;

/** Each of so many chains is a vector of four; they do not wait for one another. */
function arithmetic(): Kernel {
  const chains = Array.from({ length: CHAINS }, (_, i) => i);
  return {
    name: "ceiling of arithmetic",
    bindings: ["write"],
    uniforms: ["u32"],
    features: [],
    code: `
@group(0) @binding(0) var<storage, read_write> result: array<vec4f>;
struct Uniforms { steps: u32 }
@group(0) @binding(1) var<uniform> uniforms: Uniforms;
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let factor = vec4f(0.5 + f32(id.x) * 1e-9);
${chains.map((i) => `  var chain${i} = vec4f(${i}.0);`).join("\n")}
  for (var i = 0u; i < uniforms.steps; i++) {
${[0, 1, 2, 3].flatMap(() => chains.map((i) => `    chain${i} = fma(chain${i}, factor, vec4f(1.0));`)).join("\n")}
  }
  result[id.x] = ${chains.map((i) => `chain${i}`).join(" + ")};
}`,
  };
}

/** `apart`: invocations read stretches of their own, as processors like it; else neighbours read neighbouring vectors. */
function reading(apart: boolean, copy: boolean): Kernel {
  const at = apart ? "id.x * uniforms.share + i" : "i * uniforms.threads + id.x";
  return {
    name: `ceiling of ${copy ? "copying" : "reading"} ${apart ? "apart" : "together"}`,
    bindings: ["read", "write"],
    uniforms: ["u32", "u32"],
    features: [],
    code: `
@group(0) @binding(0) var<storage, read> data: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4f>;
struct Uniforms { share: u32, threads: u32 }
@group(0) @binding(2) var<uniform> uniforms: Uniforms;
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = vec4f();
  for (var i = 0u; i < uniforms.share; i++) {
    ${copy ? `result[${at}] = data[${at}];` : `sum += data[${at}];`}
  }
  ${copy ? "" : "result[id.x] = sum;"}
}`,
  };
}

export async function measureCeilings(gpu: Gpu, rounds: number): Promise<Ceilings> {
  const data = gpu.allocate(BYTES, "test");
  const result = gpu.allocate(BYTES, "test");
  const threads = GROUPS * SIZE;
  const workgroups: Dispatch["workgroups"] = [GROUPS, 1, 1];
  const best = async (dispatch: Dispatch): Promise<number> => {
    await gpu.run([dispatch]);
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      await gpu.run([dispatch]);
      times.push((performance.now() - start) / 1000);
    }
    return Math.min(...times);
  };
  const move = (apart: boolean, copy: boolean) =>
    best({
      kernel: reading(apart, copy),
      buffers: [data, result],
      uniforms: [BYTES / 16 / threads, threads],
      workgroups,
    });
  const arithmeticTime = await best({ kernel: arithmetic(), buffers: [result], uniforms: [STEPS], workgroups });
  const reads = [await move(true, false), await move(false, false)];
  const copies = [await move(true, true), await move(false, true)];
  gpu.free(data);
  gpu.free(result);
  return {
    gigaflops: (threads * STEPS * CHAINS * 4 * 8) / arithmeticTime / 1e9,
    read: BYTES / Math.min(...reads) / 1e9,
    copied: BYTES / Math.min(...copies) / 1e9,
  };
}
