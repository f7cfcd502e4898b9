import type { MethodDefinition } from "@longctx/core";
import { blocks } from "./blocks.ts";

export * from "./blocks.ts";
export type { Finding, HalvesFinding } from "./heads/findings.ts";
export * from "./heads/head-probe.ts";
export * from "./heads/heads-file.ts";
export * from "./heads/measure-heads.ts";
export * from "./sentence-scores.ts";
export * from "./sentences.ts";

/** All methods of this package, to be put into a MethodRegistry. */
export const retrievalMethods: readonly MethodDefinition[] = [blocks];
