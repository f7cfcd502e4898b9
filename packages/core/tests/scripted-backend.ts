import {
  Rings,
  type Backend,
  type ForwardRequest,
  type ModelConfig,
  type RingLayout,
  type SequenceState,
} from "@longctx/core";
import type { Tokenizer } from "@longctx/core";
import { tinyConfig } from "./tiny-model.ts";

/** A model that says what a script says: after the token at text index n comes `script(n, ids)`. */
export class ScriptedBackend implements Backend {
  readonly device = "scripted";
  readonly precision = "exact";
  readonly preferredChunk = 4;
  readonly config: ModelConfig;
  /** How many tokens each call read. */
  readonly calls: number[] = [];
  readonly #script: (index: number, ids: readonly number[]) => number | readonly number[];

  /** A script may also answer with a whole row of logits. */
  constructor(script: (index: number, ids: readonly number[]) => number | readonly number[], vocabSize = 32) {
    this.config = tinyConfig({ vocabSize, maxPositions: 64 });
    this.#script = script;
  }

  createState(layouts: RingLayout | readonly RingLayout[]): SequenceState {
    return new ScriptedState(this, Rings.of(layouts, this.config.layerCount), []);
  }

  restoreState(layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array): SequenceState {
    const rings = Rings.of(layouts, this.config.layerCount);
    rings.restore(bytes.length, bytes.length);
    return new ScriptedState(this, rings, [...bytes]);
  }

  async forward({ state, ids, logitRows }: ForwardRequest): Promise<Float32Array> {
    if (!(state instanceof ScriptedState)) throw new Error("another backend's state");
    const { vocabSize } = this.config;
    this.calls.push(ids.length);
    state.rings.append(ids.length);
    state.ids.push(...ids);
    const end = state.ids.length;
    const logits = new Float32Array(logitRows * vocabSize);
    for (let row = 0; row < logitRows; row++) {
      const read = end - logitRows + row + 1;
      const next = this.#script(read - 1, state.ids.slice(0, read));
      if (typeof next === "number") logits[row * vocabSize + next] = 9;
      else logits.set(next, row * vocabSize);
    }
    return logits;
  }

  async dispose(): Promise<void> {}
}

class ScriptedState implements SequenceState {
  readonly backend: Backend;
  readonly rings: Rings;
  readonly ids: number[];
  readonly bytes = 0;
  readonly bytesByPart = { ring: 0, far: 0, index: 0, memory: 0 };

  constructor(backend: Backend, rings: Rings, ids: number[]) {
    this.backend = backend;
    this.rings = rings;
    this.ids = ids;
  }

  fork(): SequenceState {
    return new ScriptedState(this.backend, this.rings.fork(), [...this.ids]);
  }

  truncate(length: number): void {
    this.rings.truncate(length);
    this.ids.length = length;
  }

  save(): Uint8Array {
    return Uint8Array.from(this.ids);
  }

  dispose(): void {}
}

/** Token i spells `pieces[i]`; pieces are bytes, so that a character may be spread over several. */
export function pieceTokenizer(pieces: readonly (string | readonly number[])[]): Tokenizer {
  const bytes = pieces.map((piece) => (typeof piece === "string" ? [...new TextEncoder().encode(piece)] : piece));
  return {
    vocabSize: pieces.length,
    encode: () => {
      throw new Error("not needed here");
    },
    decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => bytes[id] ?? []))),
    token: (id) => String(id),
  };
}
