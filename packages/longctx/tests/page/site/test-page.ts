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

/** What came of it. */
export interface Readings {
  /** [T, V] of each text. */
  readonly logits: readonly Float32Array[];
  /** The longest time in ms for which loading kept its thread from everything else. */
  readonly heldWhileLoading: number;
}

/** What became of the form. */
export interface Outcome {
  readonly ids: readonly number[];
  readonly text: string;
  readonly adapter: string;
  readonly heldWhileLoading: number;
}

/** What the test asks the page for, as its global `page`. */
export interface TestPage {
  /** Logits [T, V] of each reading on the device webgpu; `urls` are those of the checkpoint's files. */
  logits(
    request: Omit<LogitsRequest, "files"> & { urls: readonly string[]; worker: boolean },
  ): Promise<Omit<Readings, "logits"> & { readonly logits: readonly (readonly number[])[] }>;
  /** Settled when the form was sent and its tokens are there. */
  readonly outcome: Promise<Outcome>;
}
