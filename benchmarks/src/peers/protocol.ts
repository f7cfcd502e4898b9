/** What a contender's process is asked, a JSON object a line on its stdin; it answers each with a line on its stdout. */
export type Request =
  | {
      readonly command: "prefill";
      readonly ids: readonly number[];
      /** Tokens that will be decoded afterwards; the cache has to hold them too. */
      readonly room: number;
      readonly settings: Settings;
    }
  | { readonly command: "decode"; readonly count: number }
  | { readonly command: "memory" };

/** Of an engine that has any: a choice that changes its speed and nothing else. */
export type Settings = Readonly<Record<string, number | boolean>>;

/** The first line of a process, once its model is loaded. */
export interface Ready {
  readonly versions: Readonly<Record<string, string>>;
}

/** Time until the next token is known; everything that can be done before the ids are is not counted. */
export interface Prefilled {
  readonly seconds: number;
  readonly token: number;
}

/** Greedy tokens after that one, one forward pass each. */
export interface Decoded {
  readonly seconds: number;
  readonly tokens: readonly number[];
}

export interface Memory {
  /** Largest resident set since the process began. */
  readonly peakBytes: number;
}

/** What an engine does for its process. */
export interface Engine extends Ready {
  prefill(ids: readonly number[], room: number, settings: Settings): Promise<Prefilled>;
  decode(count: number): Promise<Decoded>;
}
