import { LanguageModel, Weights, type ModelConfig } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { randomNumbers, tinyWeights } from "../../core/tests/tiny-model.ts";

/** Some rounding errors of float32. */
const SHAKEN = 3e-6;
const TRIES = 4;

/**
 * References whose weights differ by some rounding errors each. Where a choice is too close to call, their logits differ
 * from those of the model as it is, and a device in float32 may choose otherwise too.
 */
export function shakenModels(config: ModelConfig, trainedWindow: number): LanguageModel[] {
  return Array.from({ length: TRIES }, (_, seed) => {
    const backend = createReference(config, shaken(tinyWeights(config), seed));
    return new LanguageModel({ backend, tokenizer: null, chatTemplate: null, trainedWindow });
  });
}

function shaken(weights: Weights, seed: number): Weights {
  const random = randomNumbers(seed);
  return new Weights(
    new Map(
      [...weights.names()].map((name) => {
        const tensor = weights.find(name)!;
        const values = tensor.toFloat32().map((value) => value * (1 + SHAKEN * (random() - 0.5)));
        return [
          name,
          { ...tensor, bytes: () => new Uint8Array(values.slice().buffer), toFloat32: () => values.slice() },
        ];
      }),
    ),
  );
}
