import type { MethodDefinition } from "@longctx/core";
import { dualChunk } from "./dual-chunk.ts";
import { dynamicNtk } from "./dynamic-ntk.ts";
import { interpolation } from "./interpolation.ts";
import { leakyRerope } from "./leaky-rerope.ts";
import { llama3 } from "./llama3.ts";
import { logn } from "./logn.ts";
import { longrope } from "./longrope.ts";
import { none } from "./none.ts";
import { ntk } from "./ntk.ts";
import { ntkByParts } from "./ntk-by-parts.ts";
import { ntkMixed } from "./ntk-mixed.ts";
import { power } from "./power.ts";
import { rerope } from "./rerope.ts";
import { selfExtend } from "./self-extend.ts";
import { truncation } from "./truncation.ts";
import { yarn } from "./yarn.ts";

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
export * from "@longctx/rope-types";
export {
  distanceMatrix,
  effectiveDistance,
  frequencyTable,
  makeTable,
  rotaryPairs,
  rotationAngle,
  type RotationOptions,
} from "@longctx/core";

/** All methods of this package, to be put into a MethodRegistry. */
export const ropeMethods: readonly MethodDefinition[] = [
  none,
  interpolation,
  ntk,
  dynamicNtk,
  ntkMixed,
  yarn,
  ntkByParts,
  longrope,
  llama3,
  truncation,
  power,
  rerope,
  leakyRerope,
  selfExtend,
  dualChunk,
  logn,
];
