import * as fc from "fast-check";
import { Capture, type Composition, type ModelContext, type Session } from "@longctx/core";
import { attempt, randomComposition } from "./random-methods.ts";

/** A text and how it is read under a composition of random methods, for a model of so many rotary pairs. */
export const randomReading = (pairs: number) =>
  fc
    .record({
      method: randomComposition(pairs),
      trainedWindow: fc.integer({ min: 4, max: 64 }),
      chunk: fc.oneof(fc.integer({ min: 1, max: 24 }), fc.constant(100)),
      /** Tokens handed over at each call; a generated token is a call of one. */
      calls: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })), { minLength: 1, maxLength: 6 }),
      /** All calls are parts of one prompt, or what follows the first is read for itself. */
      parts: fc.boolean(),
      /** Looking at a layer takes the path on which the decoder stops at every layer. */
      looked: fc.boolean(),
      seed: fc.nat(1000),
    })
    .map(({ calls: [first, ...others], ...rest }) => ({
      ...rest,
      calls: [Math.max(first, rest.method.readAtOnce), ...others],
    }));

export const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);

/** Some parameters do not fit T, and some prompts are too short to be cut into windows; that is tested elsewhere. */
export function takes(method: Composition, promptLength: number, context: ModelContext): boolean {
  const plan = () => method.plan({ ...context, first: 0, count: 1, length: promptLength, promptLength, layer: 0 });
  return attempt(() => (method.check(context), plan())) !== null;
}

/** Reads a text by calls of so many tokens each, and returns all logits, [T, V]. */
export async function readCalls(
  session: Session,
  ids: readonly number[],
  calls: readonly number[],
  { length, looked = false }: { readonly length: number | undefined; readonly looked?: boolean },
): Promise<Float32Array> {
  const logits = new Float32Array(ids.length * session.model.config.vocabSize);
  for (const count of calls) {
    const first = session.length;
    const capture = looked ? new Capture({ layers: [1] }) : undefined;
    const part = await session.prefill(ids.slice(first, first + count), { logitRows: count, capture, length });
    logits.set(part, first * session.model.config.vocabSize);
  }
  session.dispose();
  return logits;
}
