// The types that platform-node.ts and platform-browser.ts share with the files that import one of them as "#platform".
import type { Backend, ModelConfig, Precision, Weights } from "@longctx/core";
import type { DownloadProgress } from "@longctx/loaders";

export interface OpenOptions {
  /** T of the methods, in place of what the checkpoint says. */
  readonly trainedWindow?: number;
  /** Told how far a download is, or the reading of a file that a page holds in memory. */
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Ends what goes on with an error "aborted"; nothing is held then. */
  readonly signal?: AbortSignal;
}

export type CreateCpuBackend = (config: ModelConfig, weights: Weights, precision: Precision) => Promise<Backend>;
