import type { Interval } from "@longctx/core";

/** A prompt that asks for a needle in a text, by which heads that retrieve are found. All ranges are of places in `ids`. */
export interface HeadProbe {
  /** What kind of prompt it is, such as "passkey in prose"; findings are given for each kind. */
  readonly kind: string;
  /** Whether heads are judged by this prompt; else they are chosen by it. */
  readonly heldOut: boolean;
  readonly ids: readonly number[];
  /** The tokens of the sentences of the text, the needle's among them: consecutive ranges. */
  readonly sentences: readonly Interval[];
  /** The tokens of the needle, which may be several sentences. */
  readonly needle: Interval;
  /** The tokens of the question and the opening of its answer, behind the text. */
  readonly question: Interval;
}
