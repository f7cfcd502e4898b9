import type { SequenceState } from "../backend/backend.ts";
import type { Composition } from "../method/composition.ts";
import type { Method, MethodState, ModelContext } from "../method/method.ts";
import type { Occupancy } from "./occupancy.ts";

/** What a session reads into, and the methods under which it reads. */
interface Reading {
  readonly state: SequenceState;
  readonly hooks: ReadonlyMap<Method, MethodState>;
  readonly method: Composition;
  readonly context: ModelContext;
}

/**
 * Undoes a failed chunk: removes what it has written to the state behind the first `length` tokens, or marks the session
 * as broken.
 */
export function takeBack(
  { state, hooks, method, context }: Reading,
  length: number,
  occupancy: Occupancy,
  cause: unknown,
): void {
  if (state.rings.length === length) return; // the chunk failed before it wrote anything
  // A hook that remembers the sequence may have taken in a part of the chunk, and nobody can tell which part.
  const remembering = [...hooks.values()].some((hook) => !hook.remembersNothing);
  if (!remembering) {
    try {
      return state.truncate(length);
    } catch {
      // Truncation fails where the chunk evicted tokens or wrote a memory; the session is then marked as broken.
    }
  }
  const keeper = remembering || method.memory(context) ? "memory" : "bounded cache";
  occupancy.breakFor(
    `Reading failed after ${length} tokens and left a chunk half read, which its ${keeper} cannot take back. Start another session, or fork before reading what may fail.`,
    cause,
  );
}
