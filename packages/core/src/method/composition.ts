import { checkpointFrequencies, isLengthDependent } from "../positions/frequencies.ts";
import { LongctxError } from "../common/errors.ts";
import { nameOf, refusal } from "./conflicts.ts";
import type { Axis, ChunkContext, Method, ModelContext } from "./method.ts";
import { EVERYTHING, TEXT_POSITION, within, type AttentionPlan, type FrequencyTable, type Segment } from "./plan.ts";
import type { CacheLayout } from "../state/slots.ts";

/** Segment-changing methods run in this order: who is visible first, then at which distance. */
const ORDER: readonly Axis[] = ["visibility", "distance", "memory", "frequencies", "temperature"];

/** Where the axis is claimed by a parameter, there is another way than leaving the method out. */
const REMEDIES: Partial<Record<Axis, string>> = {
  temperature: ", or switch its temperature off (logn=0 of rerope, attention_factor=1 of yarn)",
};

/** Several methods as one. @throws LongctxError "method" when two claim one axis, or one refuses another */
export function compose(...methods: readonly Method[]): Composition {
  return new Composition(methods.flatMap((method) => (method instanceof Composition ? method.parts : [method])));
}

/** Methods that were checked against each other; answers the questions of a session. */
export class Composition implements Method {
  readonly parts: readonly Method[];
  readonly axes: readonly Axis[];
  readonly spec: string;

  constructor(methods: readonly Method[]) {
    const claims = new Map<Axis, Method>();
    for (const method of methods) {
      for (const other of methods) {
        const reason = refusal(method, other);
        if (reason)
          throw new LongctxError("method", `${nameOf(method)} cannot be combined with ${nameOf(other)}: ${reason}.`);
      }
      for (const axis of method.axes) {
        const other = claims.get(axis);
        if (other)
          throw new LongctxError(
            "method",
            `${other.spec} and ${method.spec} both change the ${axis}; only one method can, so leave one of them out${REMEDIES[axis] ?? ""}.`,
          );
        claims.set(axis, method);
      }
    }
    this.parts = [...methods].sort((a, b) => rank(a) - rank(b));
    this.axes = [...claims.keys()];
    this.spec = methods.map((method) => method.spec).join("+") || "none";
  }

  check(context: ModelContext): void {
    for (const part of this.parts) part.check?.(context);
    const sharper = this.parts.find((part) => part.temperature);
    const { amplitude } = this.table(context, context.trainedWindow);
    if (sharper && amplitude !== 1)
      throw new LongctxError(
        "method",
        `${sharper.spec} sharpens the softmax, which the checkpoint's own rope type ${context.config.rope.type} already does (attention factor ${amplitude.toFixed(4)}); leave ${nameOf(sharper)}'s temperature out, or compose it with a frequency method that has none (ntk, interpolation, yarn with attention_factor=1).`,
      );
  }

  /** The table for a text of `length` tokens: the frequency method's, else the checkpoint's own. */
  table({ config, trainedWindow }: ModelContext, length: number): FrequencyTable {
    const method = this.parts.find((part) => part.frequencies);
    // Beyond its span a text gets no longer for attention, so a table that follows the length does not either.
    const spanned = Math.min(length, ...this.parts.map((part) => part.span ?? Infinity));
    return method
      ? method.frequencies!({ rope: config.rope, trainedWindow, length: spanned })
      : checkpointFrequencies(config.rope, config.maxPositions, spanned);
  }

  /** Does the table change as the text grows? Then the cache keeps keys without rotation too. */
  lengthDependentOn(context: ModelContext): boolean {
    const method = this.parts.find((part) => part.frequencies);
    return method ? Boolean(method.lengthDependent) : isLengthDependent(context.config.rope);
  }

  /** `table` is that of the chunk's length, for callers that have it. */
  plan(chunk: ChunkContext, table = this.table(chunk, chunk.length)): AttentionPlan {
    const base: Segment = {
      tokens: EVERYTHING,
      table,
      queryPosition: TEXT_POSITION,
      keyPosition: TEXT_POSITION,
      band: EVERYTHING,
    };
    let segments = this.parts.reduce<Segment[]>((before, part) => part.segments?.(before, chunk) ?? before, [base]);
    const window = chunk.config.slidingWindows[chunk.layer];
    if (window && !this.parts.some((part) => part.disablesSlidingWindow)) {
      // Bidirectional segments (negative distances) are kept: the window only bounds how far back a query sees.
      segments = segments
        .map((segment) => within(segment, { from: -Infinity, to: window }))
        .filter((segment) => segment !== null);
    }
    const tempered = this.parts.filter((part) => part.temperature);
    if (tempered.length === 0) return { segments };
    const at = (query: number) => tempered.reduce((product, part) => product * part.temperature!(query, chunk), 1);
    return { segments, temperature: { id: tempered.map((part) => part.spec).join("+"), at } };
  }

  get readAtOnce(): number {
    return Math.max(0, ...this.parts.map((part) => part.readAtOnce ?? 0));
  }

  layout(context: ModelContext & { readonly chunk: number }): CacheLayout | undefined {
    return this.parts.find((part) => part.layout)?.layout?.(context);
  }
}

function rank(method: Method): number {
  return Math.min(...method.axes.map((axis) => ORDER.indexOf(axis)), ORDER.length);
}
