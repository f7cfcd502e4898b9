import type { MethodDefinition } from "@longctx/core";
import { dynamicNtkMethod } from "./dynamic-ntk.ts";
import { interpolationMethod } from "./interpolation.ts";
import { lognMethod } from "./logn.ts";
import { noneMethod } from "./none.ts";
import { ntkMethod } from "./ntk.ts";
import { reropeMethod } from "./rerope.ts";
import { yarnMethod } from "./yarn.ts";

export * from "./dynamic-ntk.ts";
export * from "./interpolation.ts";
export * from "./logn.ts";
export * from "./none.ts";
export * from "./ntk.ts";
export * from "./rerope.ts";
export * from "./yarn.ts";
export {
  defaultFrequencies,
  dynamicAlpha,
  linearFrequencies,
  llama3Frequencies,
  longropeAmplitude,
  makeTable,
  ntkFrequencies,
  yarnAmplitude,
  yarnFrequencies,
} from "@longctx/core";

/** The rows of this package, for a MethodRegistry. */
export const ropeMethods: readonly MethodDefinition[] = [
  noneMethod,
  interpolationMethod,
  ntkMethod,
  dynamicNtkMethod,
  yarnMethod,
  reropeMethod,
  lognMethod,
];
