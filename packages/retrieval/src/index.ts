import type { MethodDefinition } from "@longctx/core";
import { blocks } from "./blocks.ts";

export * from "./blocks.ts";
export * from "./hnsw.ts";

/** All methods of this package, to be put into a MethodRegistry. */
export const retrievalMethods: readonly MethodDefinition[] = [blocks];
