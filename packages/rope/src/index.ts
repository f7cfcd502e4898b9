import type { MethodDefinition } from "@longctx/core";
import { dualChunkMethod } from "./dual-chunk.ts";
import { dynamicNtkMethod } from "./dynamic-ntk.ts";
import { interpolationMethod } from "./interpolation.ts";
import { leakyReropeMethod } from "./leaky-rerope.ts";
import { llama3Method } from "./llama3.ts";
import { lognMethod } from "./logn.ts";
import { longropeMethod } from "./longrope.ts";
import { noneMethod } from "./none.ts";
import { ntkMethod } from "./ntk.ts";
import { ntkByPartsMethod } from "./ntk-by-parts.ts";
import { ntkMixedMethod } from "./ntk-mixed.ts";
import { powerMethod } from "./power.ts";
import { reropeMethod } from "./rerope.ts";
import { selfExtendMethod } from "./self-extend.ts";
import { truncationMethod } from "./truncation.ts";
import { yarnMethod } from "./yarn.ts";

export * from "./dual-chunk.ts";
export * from "./dynamic-ntk.ts";
export * from "./interpolation.ts";
export * from "./leaky-rerope.ts";
export * from "./llama3.ts";
export * from "./logn.ts";
export * from "./longrope.ts";
export * from "./none.ts";
export * from "./ntk.ts";
export * from "./ntk-by-parts.ts";
export * from "./ntk-mixed.ts";
export * from "./power.ts";
export * from "./rerope.ts";
export * from "./self-extend.ts";
export * from "./truncation.ts";
export * from "./yarn.ts";
export {
  defaultFrequencies,
  distanceMatrix,
  dynamicAlpha,
  effectiveDistance,
  frequencyTable,
  linearFrequencies,
  llama3Frequencies,
  longropeAmplitude,
  makeTable,
  ntkBase,
  ntkFrequencies,
  rotaryPairs,
  rotationAngle,
  YARN_DEFAULTS,
  yarnAmplitude,
  yarnCorners,
  yarnFrequencies,
  type RotationOptions,
} from "@longctx/core";

/** The rows of this package, for a MethodRegistry. */
export const ropeMethods: readonly MethodDefinition[] = [
  noneMethod,
  interpolationMethod,
  ntkMethod,
  dynamicNtkMethod,
  ntkMixedMethod,
  yarnMethod,
  ntkByPartsMethod,
  longropeMethod,
  llama3Method,
  truncationMethod,
  powerMethod,
  reropeMethod,
  leakyReropeMethod,
  selfExtendMethod,
  dualChunkMethod,
  lognMethod,
];
