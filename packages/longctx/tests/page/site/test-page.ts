import type { Watched } from "./held-thread.ts";

/** A text, and the method it is read with. */
export interface Reading {
  readonly spec: string;
  readonly ids: readonly number[];
}

export interface LogitsRequest {
  readonly files: readonly File[];
  readonly readings: readonly Reading[];
  /** T. */
  readonly trainedWindow: number;
  readonly chunk: number;
}

/** What became of the form. */
export interface Outcome {
  readonly ids: readonly number[];
  readonly text: string;
  readonly adapter: string;
  /** Weights on their way to the GPU. */
  readonly upload: Watched;
}

/** What the test asks the page for, as its global `page`. */
export interface TestPage {
  /** Logits [T, V] of each reading on the device webgpu; `urls` are those of the checkpoint's files. */
  logits(request: Omit<LogitsRequest, "files"> & { urls: readonly string[]; worker: boolean }): Promise<number[][]>;
  /** Settled when the form was sent and its tokens are there. */
  readonly outcome: Promise<Outcome>;
}
