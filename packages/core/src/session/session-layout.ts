import { LongctxError } from "../common/errors.ts";
import { compose, type Composition } from "../method/composition.ts";
import type { RingLayout } from "../method/method.ts";
import type { SessionModel, SessionOptions } from "./session-types.ts";

/** Combines the methods of a session's options. @throws LongctxError "method" where they conflict */
export function compositionOf(method: SessionOptions["method"]): Composition {
  return compose(...(method === undefined ? [] : "spec" in method ? [method] : method));
}

/**
 * Returns the ring layout of each layer, and how many prompt tokens are computed at once under the methods and options.
 * @throws LongctxError where the options are wrong or a method refuses the model
 */
export function layoutOf(
  { backend, context }: Pick<SessionModel, "backend" | "context">,
  method: Composition,
  options: SessionOptions,
): { readonly chunk: number; readonly layouts: readonly RingLayout[] } {
  const { chunk = backend.preferredChunk, capacity = context.config.maxPositions } = options;
  if (!Number.isInteger(chunk) || chunk < 1)
    throw new LongctxError("argument", `A chunk of ${chunk} tokens is impossible; give a whole number of at least 1.`);
  method.check(context);
  const most = method.groupSize ?? chunk;
  const segment = method.memory(context)?.segment ?? 0;
  const layouts = Array.from({ length: context.config.layerCount }, (_, layer): RingLayout => {
    const bounded = method.layout({ ...context, chunk: most, layer });
    if (!bounded) {
      const near = method.groupSize === undefined ? undefined : method.near({ ...context, chunk: most, layer });
      const whole = { capacity, pinned: capacity };
      return near ? { ...whole, near: { ...near, last: Math.max(near.last, segment), chunk: most } } : whole;
    }
    if (method.groupSize !== undefined && method.groupSize > 1)
      throw new LongctxError(
        "method",
        `${method.spec} reads groups of ${method.groupSize} tokens at once, which the end of a bounded cache would cut; leave out the method that bounds the cache.`,
      );
    // A compressive memory is written from a whole segment of the text, which the ring has to hold beside a chunk.
    return { ...bounded, capacity: Math.max(bounded.capacity, bounded.pinned + segment + most) };
  });
  return { chunk: most, layouts };
}
