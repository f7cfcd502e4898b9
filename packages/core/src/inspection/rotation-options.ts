import { compose, type Composition } from "../method/composition.ts";
import type { ModelConfig, RopeConfig } from "../model/config.ts";
import { LongctxError } from "../common/errors.ts";
import type { Method, ModelContext } from "../method/method.ts";

/** The model and the text for which a method's angles are computed. */
export interface RotationOptions {
  /** A checkpoint's description, which supplies RoPE, trained window and sliding windows. */
  readonly config?: ModelConfig;
  /** Fields that replace those of the config's RoPE; without a config: type default, base 10000, rotarySize 64. */
  readonly rope?: Partial<RopeConfig>;
  /** The trained window T in tokens; the config's unless given, 4096 without a config. */
  readonly trainedWindow?: number;
  /**
   * The length N of the text in tokens, which matters for length-dependent tables and for methods that divide the
   * prompt.
   */
  readonly length?: number;
  /** The layer, 0 unless given; layers differ only by their sliding windows. */
  readonly layer?: number;
  /** Tensors that the checkpoint holds for methods, by canonical name, as in `ModelContext.learned`. */
  readonly learned?: ModelContext["learned"];
}

/**
 * Checks the options, and returns the method as a composition together with the model that the options describe.
 * @throws LongctxError when an option is wrong or the method refuses the model
 */
export function prepare(
  method: Method,
  options: RotationOptions,
): { readonly composition: Composition; readonly context: ModelContext } {
  const trainedWindow = checkCount("trainedWindow", options.trainedWindow ?? options.config?.trainedWindow ?? 4096);
  const rope: RopeConfig = { type: "default", base: 10_000, rotarySize: 64, ...options.config?.rope, ...options.rope };
  if (!Number.isInteger(rope.rotarySize) || rope.rotarySize < 2 || rope.rotarySize % 2 !== 0)
    throw new LongctxError("argument", `rotarySize is ${rope.rotarySize}, but has to be an even number of at least 2.`);
  // At base 1 all pairs would have the same frequency, and YaRN's ramp would divide by ln 1 = 0.
  if (!(rope.base > 1 && rope.base < Infinity))
    throw new LongctxError("argument", `The RoPE base is ${rope.base}, but has to be a number above 1.`);
  const config = options.config ? { ...options.config, rope } : nominalConfig(rope, trainedWindow);
  const context = { config, trainedWindow, learned: options.learned };
  const composition = compose(method);
  composition.check(context);
  return { composition, context };
}

/**
 * Makes the description of a decoder with one layer and one head, for methods, which read only its RoPE and its
 * windows.
 */
function nominalConfig(given: RopeConfig, trainedWindow: number): ModelConfig {
  const extended = given.type !== "default" && given.type !== "dynamic";
  const rope = extended ? { originalMaxPositions: trainedWindow, ...given } : given;
  return {
    modelType: "nominal",
    vocabSize: 1,
    hiddenSize: rope.rotarySize,
    layerCount: 1,
    queryHeads: 1,
    keyHeads: 1,
    headSize: rope.rotarySize,
    feedForwardSize: rope.rotarySize,
    norm: { kind: "rms", epsilon: 1e-5 },
    feedForward: "gated",
    activation: "silu",
    position: "rope",
    rope,
    bias: { query: false, key: false, value: false, output: false, feedForward: false },
    queryKeyNorm: false,
    tiedEmbedding: true,
    slidingWindows: [null],
    maxPositions: extended ? Math.round(trainedWindow * (rope.factor ?? 1)) : trainedWindow,
    trainedWindow,
    specialTokens: { bos: null, eos: [], pad: null },
  };
}

/** Checks a number of tokens. @throws LongctxError "argument" when the value is not a whole number of at least 1 */
export function checkCount(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new LongctxError("argument", `${name} is ${value}, but has to be a whole number of tokens, at least 1.`);
}

/** Checks an index. @throws LongctxError "argument" when the value is not a whole number from 0 to count − 1 */
export function checkIndex(name: string, value: number, count: number): void {
  if (!Number.isSafeInteger(value) || value < 0 || value >= count)
    throw new LongctxError("argument", `The ${name} is ${value}, but has to be a whole number from 0 to ${count - 1}.`);
}
