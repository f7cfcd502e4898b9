import type { Capabilities } from "./kernel.ts";

/** Features that kernels use where they are there. */
export const FEATURES = ["shader-f16", "subgroups", "timestamp-query"] as const;
export type Feature = (typeof FEATURES)[number];

/** Limits that are asked for as high as the adapter goes: the defaults are those of a small phone. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** What is asked of an adapter; `without` leaves features out, to test the ways around them. */
export function deviceDescriptor(adapter: GPUAdapter, without: readonly Feature[] = []): GPUDeviceDescriptor {
  return {
    label: "longctx",
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature) && !without.includes(feature)),
    requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]])),
  };
}

/** `features`: those of the device that work (`workingFeatures`). */
export function capabilitiesOf(
  { limits }: GPUDevice,
  features: ReadonlySet<string>,
  info: GPUAdapterInfo,
  software: boolean,
): Capabilities {
  return {
    f16: features.has("shader-f16"),
    subgroups: features.has("subgroups") ? subgroupSizes(info) : null,
    timestamps: features.has("timestamp-query"),
    maxWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
    maxInvocations: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
    maxWorkgroupMemory: limits.maxComputeWorkgroupStorageSize,
    maxBinding: limits.maxStorageBufferBindingSize,
    maxBuffer: limits.maxBufferSize,
    software,
  };
}

/** A device that does not say has any size that the standard allows. */
function subgroupSizes(info: GPUAdapterInfo): NonNullable<Capabilities["subgroups"]> {
  const { subgroupMinSize, subgroupMaxSize } = info as { subgroupMinSize?: number; subgroupMaxSize?: number };
  return { smallest: subgroupMinSize || 4, largest: subgroupMaxSize || 128 };
}

/** A small kernel that does with a feature what the core's own do. */
interface Probe {
  readonly feature: Feature;
  readonly code: string;
}

const PROBES: readonly Probe[] = [
  {
    feature: "subgroups",
    code: `enable subgroups;
@group(0) @binding(0) var<storage, read_write> numbers: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) own: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let largest = subgroupMax(numbers[own]);
  if (subgroupElect()) { numbers[own] = largest + f32(lane); }
}
`,
  },
  {
    feature: "shader-f16",
    code: `enable f16;
@group(0) @binding(0) var<storage, read_write> numbers: array<f32>;
var<workgroup> halves: array<vec4<f16>, 64>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) own: u32) {
  halves[own] = vec4<f16>(f16(numbers[own]));
  workgroupBarrier();
  numbers[own] = f32(dot(halves[63u - own], halves[own]));
}
`,
  },
];

/** Features that a device has and whose kernels its driver compiles: some have one and fail at the other. */
export async function workingFeatures(device: GPUDevice): Promise<ReadonlySet<string>> {
  const there = FEATURES.filter((feature) => device.features.has(feature));
  const works = await Promise.all(
    there.map(async (feature) => {
      const probe = PROBES.find((one) => one.feature === feature);
      return !probe || compiles(device, probe);
    }),
  );
  return new Set(there.filter((_, i) => works[i]));
}

async function compiles(device: GPUDevice, { feature: label, code }: Probe): Promise<boolean> {
  device.pushErrorScope("internal");
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label, code });
  const made = device.createComputePipelineAsync({ label, layout: "auto", compute: { module, entryPoint: "main" } });
  const scopes = Promise.all([device.popErrorScope(), device.popErrorScope()]);
  scopes.catch(() => undefined); // a device that was lost says so to the next who asks
  try {
    await made;
    return (await scopes).every((error) => error === null);
  } catch {
    return false;
  }
}
