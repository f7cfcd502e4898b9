import { LongctxError } from "../common/errors.ts";
import type { Weights } from "./weights.ts";

/**
 * Reads the small tensors that a checkpoint holds for methods instead of the decoder, by canonical name
 * (`layers.0.method.infini_gate`). All are read at once, because a backend may close the checkpoint's file afterwards.
 * @throws LongctxError "file" when one of them is not a list of finite numbers
 */
export function learnedForMethods(weights: Weights): ReadonlyMap<string, Float32Array> {
  const names = [...weights.names()].filter((name) => /^layers\.\d+\.method\./.test(name));
  return new Map(
    names.map((name) => {
      const tensor = weights.find(name)!;
      if (tensor.shape.length !== 1)
        throw new LongctxError(
          "file",
          `${tensor.name} has the shape [${tensor.shape.join(", ")}], but what a method learns is a list, one number a head; use the checkpoint that the method was trained with.`,
        );
      const values = tensor.toFloat32();
      const wrong = values.findIndex((value) => !Number.isFinite(value));
      if (wrong >= 0)
        throw new LongctxError("file", `${tensor.name} has ${values[wrong]} at ${wrong}, which is no number to compute with; download the checkpoint again.`); // prettier-ignore
      return [name, values];
    }),
  );
}
