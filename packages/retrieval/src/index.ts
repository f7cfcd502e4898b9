import type { MethodDefinition } from "@longctx/core";
import { blocks } from "./blocks.ts";
import { knn } from "./knn.ts";
import { oracleBlock } from "./oracle-block.ts";
import { oracle } from "./oracle.ts";
import { randomBlocks } from "./random-blocks.ts";

export * from "./blocks.ts";
export * from "./knn.ts";
export * from "./oracle-block.ts";
export * from "./oracle.ts";
export * from "./random-blocks.ts";
export type { Finding, HalvesFinding } from "./heads/findings.ts";
export * from "./heads/head-probe.ts";
export * from "./heads/measure-heads.ts";
export * from "./heads/write-heads.ts";
export * from "./reader/heads-file.ts";
export * from "./reader/scroll.ts";
export * from "./reader/scroll-options.ts";
export * from "./reader/scroll-spec.ts";
export { sentencesOf } from "./reader/sentences.ts";
export * from "./measures/trace.ts";
export {
  measureRetrieval,
  spreadRows,
  type MeasureOptions,
  type RetrievalMeasures,
} from "./measures/measure-retrieval.ts";
export {
  MEASURE_POSITIONS,
  type HeadMeasure,
  type LayerMeasure,
  type MeasurePositions,
  type RetrievalMeasure,
} from "./measures/retrieval-measures.ts";
export * from "./nearest/hnsw.ts";

/** All methods of this package, to be put into a MethodRegistry. */
export const retrievalMethods: readonly MethodDefinition[] = [blocks, knn, oracle, oracleBlock, randomBlocks];
