import type { MethodDefinition } from "@longctx/core";
import { streamingMethod } from "./streaming.ts";

export * from "./streaming.ts";

/** The rows of this package, for a MethodRegistry. */
export const windowMethods: readonly MethodDefinition[] = [streamingMethod];
