import type { Backend } from "../backend/backend.ts";
import { generateBatch, type BatchOptions, type BatchRow } from "./batch.ts";
import { compose } from "../method/composition.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Method, ModelContext } from "../method/method.ts";
import { restoreSession } from "./restore-session.ts";
import { Session } from "./session.ts";
import type { SessionOptions } from "./session-types.ts";
import type { ChatTemplate, Tokenizer } from "../text/tokenizer.ts";
import type { Weights } from "../model/weights.ts";
import { weightsChecksum } from "../model/weights-checksum.ts";

export interface LanguageModelParts {
  readonly backend: Backend;
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: ChatTemplate | null;
  /**
   * What the backend was made with, open still. A few rows are read at once, so that a session saved with another model of
   * the same shape is refused; without them it is not noticed.
   */
  readonly weights?: Weights;
  /** T of the methods, in place of the config's. */
  readonly trainedWindow?: number;
  /** Called once when the model is disposed of: what it was made from may be closed then. */
  readonly onDispose?: () => void;
}

/** A decoder on a device, with its tokenizer if the checkpoint has one. Sessions are its sequences. */
export class LanguageModel {
  readonly backend: Backend;
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: ChatTemplate | null;
  readonly context: ModelContext;
  /** See `weightsChecksum`; null where the weights were not given. */
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
    };
  }

  get config(): ModelConfig {
    return this.backend.config;
  }

  /** An empty sequence under the given methods. @throws LongctxError when they conflict or do not fit the model */
  session(options: SessionOptions = {}): Session {
    return new Session(this, compose(...methodsOf(options.method)), options);
  }

  /** The sequence that `Session.save` wrote; the methods have to be the same. */
  restoreSession(bytes: Uint8Array, options: SessionOptions = {}): Session {
    return restoreSession(this, compose(...methodsOf(options.method)), options, bytes);
  }

  /** Continues prompts as independent sequences, results in order; see `generateBatch`. */
  generateBatch(prompts: readonly (readonly number[])[], options?: BatchOptions): Promise<BatchRow[]> {
    return generateBatch(this, prompts, options);
  }

  async dispose(): Promise<void> {
    await this.backend.dispose();
    this.#onDispose?.();
  }
}

function methodsOf(method: SessionOptions["method"]): readonly Method[] {
  return method === undefined ? [] : "spec" in method ? [method] : method;
}
