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
