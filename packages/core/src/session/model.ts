import type { Backend } from "../backend/backend.ts";
import { generateBatch, type BatchOptions, type BatchRow } from "./batch.ts";
import type { ModelConfig } from "../model/config.ts";
import type { ModelContext } from "../method/method.ts";
import { restoreSession } from "./restore-session.ts";
import { compositionOf } from "./session-layout.ts";
import { Session } from "./session.ts";
import type { SessionModel, SessionOptions } from "./session-types.ts";
import type { ChatTemplate, Tokenizer } from "../text/tokenizer.ts";
import { learnedForMethods } from "../model/learned.ts";
import type { Weights } from "../model/weights.ts";
import { weightsChecksum } from "../model/weights-checksum.ts";

/** What a `LanguageModel` is made of: a backend, a tokenizer, and what else a checkpoint supplies. */
export interface LanguageModelParts {
  readonly backend: Backend;
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: ChatTemplate | null;
  /**
   * The weights that the backend was made with, whose file is still open. A few rows are read for a checksum, so that
   * sessions saved with other weights of the same shape are refused; without `weights` such sessions are accepted.
   */
  readonly weights?: Weights;
  /** The trained window T in tokens that methods use in place of the config's. */
  readonly trainedWindow?: number;
  /** Called once when the model is disposed of, so that the caller can close the checkpoint's files. */
  readonly onDispose?: () => void;
}

/** A decoder on a device, with its tokenizer if the checkpoint has one. `session` opens a sequence of tokens on it. */
export class LanguageModel implements SessionModel {
  readonly backend: Backend;
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: ChatTemplate | null;
  readonly context: ModelContext;
  /** The CRC-32 checksum of the model's weights (`weightsChecksum`); null where the weights were not given. */
  readonly weightsChecksum: number | null;
  readonly #onDispose: (() => void) | undefined;

  constructor(parts: LanguageModelParts) {
    this.backend = parts.backend;
    this.tokenizer = parts.tokenizer;
    this.chatTemplate = parts.chatTemplate;
    this.weightsChecksum = parts.weights ? weightsChecksum(parts.weights, parts.backend.config) : null;
    this.#onDispose = parts.onDispose;
    this.context = {
      config: parts.backend.config,
      trainedWindow: parts.trainedWindow ?? parts.backend.config.trainedWindow,
      learned: parts.weights && learnedForMethods(parts.weights),
    };
  }

  get config(): ModelConfig {
    return this.backend.config;
  }

  /**
   * Opens an empty sequence under the given methods.
   * @throws LongctxError when methods conflict or do not fit the model
   */
  session(options: SessionOptions = {}): Session {
    return new Session(this, compositionOf(options.method), options);
  }

  /**
   * Restores the sequence that `Session.save` wrote, under the same methods.
   * @throws LongctxError when the bytes are damaged, or belong to another model, device or method
   */
  restoreSession(bytes: Uint8Array, options: SessionOptions = {}): Session {
    return restoreSession(this, compositionOf(options.method), options, bytes);
  }

  /**
   * Continues prompts as independent sequences and returns the results in order, as the function `generateBatch` does.
   */
  generateBatch(prompts: readonly (readonly number[])[], options?: BatchOptions): Promise<BatchRow[]> {
    return generateBatch(this, prompts, options);
  }

  async dispose(): Promise<void> {
    await this.backend.dispose();
    this.#onDispose?.();
  }
}
