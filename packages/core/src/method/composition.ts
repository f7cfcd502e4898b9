import { checkpointFrequencies, isLengthDependent } from "../positions/frequencies.ts";
import { LongctxError } from "../common/errors.ts";
import { nameOf, refusal } from "./conflicts.ts";
import type { Axis, ChunkContext, LayoutContext, Method, ModelContext, NearTokens, RingLayout } from "./method.ts";
import {
  EVERYTHING,
  TEXT_POSITION,
  within,
  type AttentionPlan,
  type FrequencyTable,
  type MemoryBranch,
  type Segment,
} from "./plan.ts";

/**
 * The order in which methods change a plan's segments: visibility methods narrow them before distance methods split
 * them.
 */
const ORDER: readonly Axis[] = ["visibility", "distance", "memory", "frequencies", "temperature"];

/**
 * What an error message proposes beside leaving a method out, for an axis that a method changes only by a parameter.
 */
const REMEDIES: Partial<Record<Axis, string>> = {
  temperature: ", or switch its temperature off by its parameter",
};

/**
 * Combines several methods into one.
 * @throws LongctxError "method" when two methods claim the same axis, or one refuses another
 */
export function compose(...methods: readonly Method[]): Composition {
  return new Composition(methods.flatMap((method) => (method instanceof Composition ? method.parts : [method])));
}

/**
 * Several methods combined into one, after a check that they do not conflict; a session asks it for tables, plans and
 * ring layouts.
 */
export class Composition implements Method {
  readonly parts: readonly Method[];
  readonly axes: readonly Axis[];
  /** The methods' specs joined by +, in the order in which the caller gave them. */
  readonly spec: string;
  /**
   * The methods' specs joined by +, in the order in which the methods act, so that `a+b` and `b+a` have the same key.
   */
  readonly key: string;

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
    const grouped = methods.filter((method) => method.groupSize !== undefined);
    const other = grouped.find((method) => method.groupSize !== grouped[0].groupSize);
    if (other)
      throw new LongctxError(
        "method",
        `${grouped[0].spec} reads groups of ${grouped[0].groupSize} tokens and ${other.spec} groups of ${other.groupSize}; a chunk can only be one group, so make them equal or leave one out.`,
      );
    this.parts = [...methods].sort((a, b) => rank(a) - rank(b) || compareText(a.spec, b.spec));
    this.key = this.parts.map((part) => part.spec).join("+");
    this.axes = [...claims.keys()];
    this.spec = methods.map((method) => method.spec).join("+") || "none";
  }

  check(context: ModelContext): void {
    for (const part of this.parts) part.check?.(context);
    const fixed = this.parts.find((part) => part.fixedTable !== undefined);
    if (fixed && this.lengthDependentOn(context))
      throw new LongctxError(
        "method",
        `${fixed.spec} cannot read a checkpoint of rope type ${context.config.rope.type}, whose table follows the length: ${fixed.fixedTable}. Compose it with a frequency method with a fixed factor.`,
      );
    const sharper = this.parts.find((part) => part.temperature);
    const { amplitude } = this.table(context, context.trainedWindow);
    if (sharper && amplitude !== 1)
      throw new LongctxError(
        "method",
        `${sharper.spec} sharpens the softmax, which the checkpoint's own rope type ${context.config.rope.type} already does (attention factor ${amplitude.toFixed(4)}); leave ${nameOf(sharper)}'s temperature out, or compose it with a frequency method that leaves the softmax as it is.`,
      );
  }

  /**
   * Returns the frequency table for a text of `length` tokens: that of the frequency method, else the checkpoint's own.
   */
  table({ config, trainedWindow }: ModelContext, length: number): FrequencyTable {
    const method = this.parts.find((part) => part.frequencies);
    // A method with a span bounds the positions that attention covers, so a length-dependent table follows at most the
    // span.
    const spanned = Math.min(length, ...this.parts.map((part) => part.span ?? Infinity));
    return method
      ? method.frequencies!({ rope: config.rope, trainedWindow, length: spanned })
      : checkpointFrequencies(config.rope, config.maxPositions, spanned);
  }

  /**
   * Returns whether the frequency table changes as the text grows, so that the KV cache has to keep raw keys to rotate
   * them again.
   */
  lengthDependentOn(context: ModelContext): boolean {
    const method = this.parts.find((part) => part.frequencies);
    return method ? Boolean(method.lengthDependent) : isLengthDependent(context.config.rope);
  }

  /**
   * Returns a layer's attention plan for a chunk of queries. A caller that has the frequency table for the chunk's
   * length may pass it as `table`.
   */
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
      // The checkpoint's sliding window bounds how far back a query sees, so tokens ahead of it (negative distances)
      // stay visible.
      segments = segments
        .map((segment) => within(segment, { from: -Infinity, to: window }))
        .filter((segment) => segment !== null);
    }
    const plan: { -readonly [Part in keyof AttentionPlan]: AttentionPlan[Part] } = { segments };
    const memory = this.memory(chunk);
    if (memory) plan.memory = memory;
    const gated = this.parts.find((part) => part.gated)?.gated?.(base, chunk);
    if (gated) plan.gated = gated;
    const tempered = this.parts.filter((part) => part.temperature);
    if (tempered.length === 0) return plan;
    const at = (query: number) => tempered.reduce((product, part) => product * part.temperature!(query, chunk), 1);
    plan.temperature = { id: tempered.map((part) => part.spec).join("+"), at };
    return plan;
  }

  /** Returns the compressive memory that a method adds beside the softmax, or undefined where no method has one. */
  memory(context: ModelContext): MemoryBranch | undefined {
    return this.parts.find((part) => part.memory)?.memory?.(context);
  }

  /**
   * The number of tokens in a group, which has to be read in one chunk, counted from the text's beginning; undefined
   * where chunks may end at any token.
   */
  get groupSize(): number | undefined {
    return this.parts.find((part) => part.groupSize !== undefined)?.groupSize;
  }

  get readAtOnce(): number {
    return Math.max(0, ...this.parts.map((part) => part.readAtOnce ?? 0));
  }

  layout(context: LayoutContext): RingLayout | undefined {
    return this.parts.find((part) => part.layout)?.layout?.(context);
  }

  near(context: LayoutContext): NearTokens | undefined {
    return this.parts.find((part) => part.near)?.near?.(context);
  }
}

function rank(method: Method): number {
  return Math.min(...method.axes.map((axis) => ORDER.indexOf(axis)), ORDER.length);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
