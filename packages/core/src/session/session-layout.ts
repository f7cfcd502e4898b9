import type { Composition } from "../method/composition.ts";
import { LongctxError } from "../common/errors.ts";
import type { LanguageModel } from "./model.ts";
import type { SessionOptions } from "./session-types.ts";
import type { CacheLayout } from "../state/slots.ts";

/** How a session's cache is laid out, and how many tokens of a prompt it computes at once. @throws LongctxError */
export function layoutOf(
  { backend, context }: LanguageModel,
  method: Composition,
  options: SessionOptions,
): { readonly chunk: number; readonly layout: CacheLayout } {
  const { chunk = backend.preferredChunk, capacity = context.config.maxPositions } = options;
  if (!Number.isInteger(chunk) || chunk < 1)
    throw new LongctxError("argument", `A chunk of ${chunk} tokens is impossible; give a whole number of at least 1.`);
  method.check(context);
  return { chunk, layout: method.layout({ ...context, chunk }) ?? { capacity, pinned: capacity } };
}
