import { LongctxError } from "../common/errors.ts";

/** Where a session stands after passes that ended at a layer. */
export interface StoppedPass {
  /** The layer after which the last pass stopped; later layers have read none of the tokens since. */
  readonly layer: number;
  /** The number of tokens that all layers have read. */
  readonly whole: number;
}

/**
 * Checks that a session can be read on, by a pass that stops after the layer `stopAfter` or by a whole one.
 * @throws LongctxError "argument" when the pass needs keys of layers that an earlier pass did not reach
 */
export function checkReadOn(stopped: StoppedPass | null, length: number, stopAfter?: number): void {
  if (!stopped || (stopAfter !== undefined && stopAfter <= stopped.layer)) return;
  throw new LongctxError(
    "argument",
    `Layers after ${stopped.layer} have not read tokens ${stopped.whole} to ${length - 1}, because a pass stopped there. Truncate the session to ${stopped.whole} or fewer tokens, read with stopAfter of at most ${stopped.layer}, or start another session.`,
  );
}
