import {
  SlotMap,
  type Backend,
  type Cache,
  type CacheLayout,
  type ForwardRequest,
  type ModelConfig,
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

  createCache(layout: CacheLayout): Cache {
    return new ScriptedCache(new SlotMap(layout), []);
  }

  restoreCache(layout: CacheLayout, bytes: Uint8Array): Cache {
    const slots = new SlotMap(layout);
    slots.length = bytes.length;
    return new ScriptedCache(slots, [...bytes]);
  }

  async forward({ cache, ids, logitRows }: ForwardRequest): Promise<Float32Array> {
    if (!(cache instanceof ScriptedCache)) throw new Error("another backend's cache");
    const { vocabSize } = this.config;
    this.calls.push(ids.length);
    cache.slots.append(ids.length);
    cache.ids.push(...ids);
    const end = cache.ids.length;
    const logits = new Float32Array(logitRows * vocabSize);
    for (let row = 0; row < logitRows; row++) {
      const read = end - logitRows + row + 1;
      const next = this.#script(read - 1, cache.ids.slice(0, read));
      if (typeof next === "number") logits[row * vocabSize + next] = 9;
      else logits.set(next, row * vocabSize);
    }
    return logits;
  }

  async dispose(): Promise<void> {}
}

class ScriptedCache implements Cache {
  readonly slots: SlotMap;
  readonly ids: number[];
  readonly bytes = 0;

  constructor(slots: SlotMap, ids: number[]) {
    this.slots = slots;
    this.ids = ids;
  }

  fork(): Cache {
    return new ScriptedCache(this.slots.fork(), [...this.ids]);
  }

  truncate(length: number): void {
    this.slots.truncate(length);
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
