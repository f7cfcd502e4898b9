import type { MethodDefinition } from "@longctx/core";
import { infini } from "./infini.ts";

export * from "./infini.ts";

/** All methods of this package, to be put into a MethodRegistry. */
export const infiniMethods: readonly MethodDefinition[] = [infini];
