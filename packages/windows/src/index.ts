import type { MethodDefinition } from "@longctx/core";
import { lmInfiniteMethod } from "./lm-infinite.ts";
import { parallelMethod } from "./parallel.ts";
import { prefixMethod } from "./prefix.ts";
import { slidingMethod } from "./sliding.ts";
import { streamingMethod } from "./streaming.ts";

export * from "./lm-infinite.ts";
export * from "./parallel.ts";
export * from "./prefix.ts";
export * from "./sliding.ts";
export * from "./streaming.ts";

/** The rows of this package, for a MethodRegistry. */
export const windowMethods: readonly MethodDefinition[] = [
  slidingMethod,
  streamingMethod,
  lmInfiniteMethod,
  parallelMethod,
  prefixMethod,
];
