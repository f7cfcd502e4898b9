import type { SequenceState } from "../backend/backend.ts";
import { LongctxError } from "../common/errors.ts";
import type { Composition } from "../method/composition.ts";
import type { Method, MethodState, RingLayout } from "../method/method.ts";
import { sameLayout } from "../state/same-layout.ts";
import type { SlotMap } from "../state/slots.ts";
import { massBand } from "../state/attention-mass.ts";
import { layoutOf } from "./session-layout.ts";
import type { SessionModel, SessionOptions, SessionParts } from "./session-types.ts";

/** The session that is forked: its model, its methods and its sizes. */
type Trunk = { readonly model: SessionModel; readonly method: Composition; readonly options: SessionOptions };

/** What a fork under other methods takes over of its trunk. */
export interface Continuation {
  /** A fork of the trunk's state. */
  readonly state: SequenceState;
  /** The trunk's ring layouts, where they are not those that a new session under the methods would have. */
  readonly layouts: readonly RingLayout[] | undefined;
  readonly hooks: ReadonlyMap<Method, MethodState>;
}

/**
 * Checks that a sequence can go on under `method`, and returns the fork's state and what else it needs. The cached keys and
 * values stay those that the trunk's methods computed; queries from here on attend by `method`. So the rings have to
 * hold every token that `method` would still hold, and everything else that is kept of a text (a compressive memory,
 * attention masses, what a hook remembers) has to be there as `method` would have made it.
 * @throws LongctxError "method" where it is not
 */
export function goOnUnder(method: Composition, trunk: Trunk, parts: SessionParts): Continuation {
  const { model, options } = trunk;
  const { rings } = parts.state;
  const { layouts } = layoutOf(model, method, options);
  const why = rings.length > 0 ? missing(method, trunk, parts) : undefined;
  if (why !== undefined) throw refusal(method, trunk, why);
  for (const [layer, layout] of layouts.entries())
    if (!covers(rings.at(layer), layout))
      throw refusal(
        method,
        trunk,
        `the cache of layer ${layer} keeps ${kept(rings.at(layer).layout)}, and ${method.spec} needs ${kept(layout)}`,
      );
  const hooks = method.parts.flatMap((part) => {
    if (!part.hook) return [];
    return [[part, parts.hooks.get(part)?.fork() ?? part.hook.create(model.context)] as const];
  });
  // A ring that holds the whole text goes on holding it; which tokens are near is for the new methods to say.
  const state = parts.state.fork(
    layouts.map(({ near }, layer) => {
      const { layout } = rings.at(layer);
      const { capacity, pinned } = layout;
      return pinned < capacity ? layout : near ? { capacity, pinned, near } : { capacity, pinned };
    }),
  );
  const own = layouts.every((layout, layer) => sameLayout(layout, state.rings.at(layer).layout));
  return {
    state,
    layouts: own ? undefined : layouts.map((_, layer) => state.rings.at(layer).layout),
    hooks: new Map(hooks),
  };
}

/** Returns what `method` would know of the text beside its keys and values, and the trunk does not; undefined for nothing. */
function missing(
  method: Composition,
  { model: { context }, method: before }: Trunk,
  { state, hooks, promptLength }: SessionParts,
): string | undefined {
  const { length } = state.rings;
  // Both methods are the same object, or no memory is there: only then is M what `method` would have written.
  if (method.memory(context) !== before.memory(context))
    return method.memory(context)
      ? `the compressive memory of ${method.spec} was not written for the ${length} tokens read`
      : `${before.spec} has put tokens into a compressive memory that it no longer keeps`;
  const forgetful = method.parts.find(
    (part) => part.hook && !hooks.has(part) && !part.hook.create(context).remembersNothing,
  );
  if (forgetful) return `the hook of ${forgetful.spec} has not seen the ${length} tokens read`;
  const { readAtOnce } = method;
  if (readAtOnce > length) return `its first ${readAtOnce} tokens see each other, and only ${length} are read`;
  if (before.readAtOnce > readAtOnce)
    return `under ${before.spec} the first ${before.readAtOnce} tokens have seen each other, and they can only be forgotten together`;
  for (let layer = 0; layer < context.config.layerCount; layer++) {
    const bandOf = (one: Composition, first: number) =>
      massBand(one.plan({ ...context, first, count: 1, length: first + 1, promptLength, layer }));
    const band = bandOf(method, length);
    if (band > 0 && band !== bandOf(before, length - 1))
      return `its choices count the attention that tokens get within ${band} tokens, which was not counted while they were read`;
  }
  return undefined;
}

/** Returns whether a ring holds every token that a ring of another layout would hold, now and while the text grows. */
function covers(ring: SlotMap, wanted: RingLayout): boolean {
  const { layout, length } = ring;
  if (layout.pinned === layout.capacity || sameLayout(layout, wanted)) return true;
  const moving = wanted.capacity - wanted.pinned;
  return (
    moving > 0 &&
    layout.pinned >= wanted.pinned &&
    layout.capacity - layout.pinned >= moving &&
    ring.oldest() <= Math.max(layout.pinned, length - moving)
  );
}

function kept({ capacity, pinned }: RingLayout): string {
  if (pinned === capacity) return "the whole text";
  return `${pinned > 0 ? `the first ${pinned} and ` : ""}the last ${capacity - pinned} tokens`;
}

function refusal(method: Composition, { method: before }: Trunk, why: string): LongctxError {
  return new LongctxError(
    "method",
    `A text read under ${before.spec} cannot go on under ${method.spec}: ${why}. Read the text in a session under ${method.spec}, or let it begin under a method that keeps what is needed (none keeps all keys and values).`,
  );
}
