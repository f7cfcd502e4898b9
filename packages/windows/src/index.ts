import type { MethodDefinition } from "@longctx/core";
import { lmInfinite } from "./lm-infinite.ts";
import { parallel } from "./parallel.ts";
import { prefix } from "./prefix.ts";
import { sliding } from "./sliding.ts";
import { streaming } from "./streaming.ts";

export * from "./lm-infinite.ts";
export * from "./parallel.ts";
export * from "./prefix.ts";
export * from "./sliding.ts";
export * from "./streaming.ts";

/** All methods of this package, to be put into a MethodRegistry. */
export const windowMethods: readonly MethodDefinition[] = [sliding, streaming, lmInfinite, parallel, prefix];
