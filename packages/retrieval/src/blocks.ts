import {
  among,
  askedBy,
  constantPosition,
  defineMethod,
  LongctxError,
  within,
  type Choice,
  type Interval,
  type PositionRule,
  type Representative,
  type Segment,
} from "@longctx/core";
import {
  atOneDistance,
  candidatesAt,
  farOf,
  groupsOf,
  inOrder,
  nearTokens,
  ofGroup,
  offsetIn,
  present,
  type BlockLayout,
  type Group,
} from "./block-segments.ts";
import { needsFullLayers } from "./layers.ts";
import { headsFor, readHeads, type Head } from "./reader/heads-file.ts";

/**
 * Block retrieval: a query sees the first tokens, the last tokens, and those blocks of older tokens that fit what it asks
 * for best. Xiao et al., "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an Efficient Context Memory", 2024
 * (arXiv:2402.04617), section 3 (query=chunk, share=heads, representative=salient, positions=constant); Liu et al.,
 * "ReAttention: Training-Free Infinite Context with Finite Attention Scope", 2024 (arXiv:2407.15176) (size=1,
 * query=token, positions=ordered); Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference",
 * 2024 (arXiv:2406.10774), algorithm 1 (representative=bounds, share=none).
 * `size`, `local`, `sinks` and `exec` are in tokens, `top` in blocks, `repr` in tokens of a block. `heads` is the content of
 * a heads file (`longctx heads`).
 * @throws LongctxError "method"
 */
export const blocks = defineMethod({
  name: "blocks",
  axes: ["visibility", "distance"],
  summary: "See the first tokens, the last ones, and the blocks between that the queries choose.",
  definition:
    "block j = tokens [sinks + j·size, sinks + (j+1)·size), a candidate once m₀ − n ≥ local for all of them, m₀ the first query of the group (query=chunk) or the query itself (query=token); the top candidates by Σ_h q_h·k_j are visible (q the group's mean query or the query itself, at local − 1; k_j the mean of the block's raw keys, of its repr keys with the largest attention mass, or its bounds), and sinks, 0 ≤ m − n < local, and what is neither; h over all heads (or those that the file heads names, in layers where it names some), a key head's, or one; g = m − n within local, else local − 1 (constant), or the distance counted over visible tokens alone (ordered)",
  paper:
    "Xiao et al. 2024, arXiv:2402.04617, section 3; Liu et al. 2024, arXiv:2407.15176 (ordered); Tang et al. 2024, arXiv:2406.10774 (bounds)",
  deviations:
    "With query=chunk all tokens of a group share one choice, so a token may choose with what the tokens up to exec − 1 ahead of it ask; generated tokens choose for themselves. Tokens that left the local band within a group, and those whose block is not complete, stay visible. InfLLM's code sums attention probabilities for its salient keys as here, its paper describes mean scores; salient keys of queries that choose for themselves (query=token) are read token by token, since each choice needs the masses that the token before left. Quest keeps bounds of rotated keys; bounds here are of raw keys, met at the distance local − 1. A layer with a sliding window of its own keeps it, and retrieves nothing. The papers know no heads that ask for others (heads).",
  parameters: {
    size: { about: "tokens of a block", unit: "tokens", default: 128, min: 1, integer: true },
    top: { about: "blocks that are taken; 0 for none", unit: "number", default: 16, min: 0, integer: true },
    local: {
      about: "last tokens that are always visible, the query's own included",
      unit: "tokens",
      default: null,
      example: 2048,
      min: 1,
      integer: true,
    },
    sinks: { about: "first tokens that stay visible", unit: "tokens", default: 4, min: 0, integer: true },
    representative: {
      about: "what represents a block: its mean key, its bounds by channel, or the mean of its most attended keys",
      unit: "choice",
      choices: ["mean", "salient", "bounds"],
      default: "mean",
    },
    repr: { about: "keys of a block that represent it (salient)", unit: "tokens", default: 4, min: 1, integer: true },
    positions: {
      about: "old tokens all at distance local − 1 (constant), or visible tokens one after another (ordered)",
      unit: "choice",
      choices: ["constant", "ordered"],
      default: "constant",
    },
    query: {
      about: "who chooses: a group of tokens by its mean query (chunk), or each token for itself (token)",
      unit: "choice",
      choices: ["chunk", "token"],
      default: "chunk",
    },
    exec: {
      about: "tokens of a group, which is read at once and chooses together",
      unit: "tokens",
      default: 512,
      min: 1,
      max: 16_384,
      integer: true,
    },
    share: {
      about: "which query heads choose together: all of them, those of a key head, or none",
      unit: "choice",
      choices: ["heads", "group", "none"],
      default: "heads",
    },
    heads: {
      about:
        "heads file of `longctx heads`: in layers where its best heads are, only these choose, for all heads (share=heads)",
      unit: "file",
      default: "all heads",
    },
  },
  create: (given) => {
    const file = given.heads && readHeads(given.heads.content, given.heads.path);
    if (file && given.share !== "heads")
      throw new LongctxError(
        "method",
        `blocks: heads names the heads that ask for all of a layer, which share=${given.share} does not let them; leave one of the two out.`,
      );
    const askersOf = byLayer(file?.best ?? []);
    const needsLayers = needsFullLayers("blocks");
    return {
      check: (context) => {
        needsLayers(context);
        if (file) headsFor(file, context.config);
      },
      segments: (segments, { first, count, layer, config }) => {
        if (config.slidingWindows[layer]) return [...segments];
        const queries = { from: first, to: first + count };
        const values = { ...given, askers: askersOf.get(layer) };
        if (values.query === "token") return segments.flatMap((segment) => chosenByEach(segment, queries, values));
        return groupsOf(first, count, values.exec).flatMap((group, _, groups) =>
          segments.flatMap((segment) => ofGroup(chosenByGroup(segment, group, values), group, groups.length === 1)),
        );
      },
      // Masses of attention are complete where a choice needs them only if the chunk ends before: a token alone does.
      groupSize: given.query === "chunk" ? given.exec : given.representative === "salient" ? 1 : undefined,
      rawKeys: true,
      // Queries and heads that choose for themselves may read any block.
      near: given.query === "chunk" && given.share === "heads" ? nearTokens(given, given.top) : undefined,
      span:
        given.positions === "constant"
          ? given.local
          : given.sinks + (given.top + 1) * given.size + given.local + (given.query === "chunk" ? given.exec : 0),
    };
  },
});

/** The heads of a list by layer, ascending. */
function byLayer(heads: readonly Head[]): ReadonlyMap<number, readonly number[]> {
  const layers = new Map<number, number[]>();
  for (const [layer, head] of heads) layers.set(layer, [...(layers.get(layer) ?? []), head]);
  return new Map([...layers].map(([layer, list]) => [layer, [...new Set(list)].sort((a, b) => a - b)]));
}

interface Values extends BlockLayout {
  readonly top: number;
  readonly representative: Representative["kind"];
  readonly repr: number;
  readonly positions: "constant" | "ordered";
  readonly share: "heads" | "group" | "none";
  /** The query heads of the layer that ask for all; undefined where all ask. */
  readonly askers: readonly number[] | undefined;
}

function choiceOf(segment: Segment, asking: Interval, last: number, values: Values): Omit<Choice, "id"> {
  const { size, top, local, sinks, representative, repr, share, askers } = values;
  const candidates = candidatesAt(last, values);
  return {
    size,
    from: sinks,
    candidates,
    count: Math.min(top, candidates),
    asking,
    share,
    askers,
    representative:
      representative === "salient" ? { kind: representative, tokens: repr, band: local } : { kind: representative },
    table: segment.table,
    queryPosition: constantPosition(local - 1),
    keyPosition: constantPosition(0),
  };
}

/** One choice for all queries of a group, whose candidates are those of its first query (query=chunk). */
function chosenByGroup(segment: Segment, group: Group, values: Values): Segment[] {
  const choice = { id: `blocks of ${group.from}`, ...choiceOf(segment, group, group.from, values) };
  const { candidates, count } = choice;
  const taken = { count, tokens: (ranks: Interval) => ({ choice, ranks }) };
  const seen = (values.positions === "constant" ? atOneDistance : inOrder)(segment, candidates, values, taken);
  return count === 0 && countsMasses(values) ? [...seen, withoutTokens(segment, choice)] : seen;
}

/** A choice of each query for itself (query=token). */
function chosenByEach(segment: Segment, queries: Interval, values: Values): Segment[] {
  const { size, top, local, sinks, positions } = values;
  const each = { beyond: local };
  const choice: Choice = { id: "blocks of each", ...choiceOf(segment, queries, queries.to - 1, values), each };
  const near = within(segment, { from: -Infinity, to: local });
  const constant = positions === "constant";
  const far = farOf(segment, local);
  const ranks = choice.count;
  const counted = ranks === 0 && countsMasses(values) ? withoutTokens(segment, choice) : null;
  if (constant) {
    const chosen = far && ranks > 0 ? { ...far, tokens: { choice, ranks: { from: 0, to: ranks } } } : null;
    return present([
      near,
      far && among(far, { from: 0, to: sinks }),
      chosen,
      counted,
      ...behindCandidates(far, queries, values),
    ]);
  }
  const shift = (id: string, back: (candidates: number, taken: number) => number): PositionRule => ({
    id: `m − ${id} of ${[size, top, local, sinks].join("/")}`,
    at: (query) => {
      const candidates = candidatesAt(query, values);
      return query - back(candidates, Math.min(top, candidates));
    },
  });
  // Positions are consecutive over the tokens that a query sees: sinks, taken blocks, and all behind the candidates.
  const old: Segment = { ...segment, queryPosition: shift("hidden", (all, taken) => (all - taken) * size) };
  const chosen = Array.from({ length: ranks }, (_, rank): Segment => ({
    ...segment,
    queryPosition: shift(`rank ${rank}`, (all, taken) => sinks + (all - taken + rank) * size),
    keyPosition: offsetIn(values),
    tokens: { choice, ranks: { from: rank, to: rank + 1 } },
  }));
  return present([
    among(old, { from: 0, to: sinks }),
    ...chosen,
    counted,
    near && among(near, { from: sinks, to: Infinity }),
    ...behindCandidates(within(segment, { from: local, to: Infinity }), queries, values),
  ]);
}

/** Attention masses are summed under every plan that has the choice, so it is there before there are candidates. */
function countsMasses({ representative, top }: Values): boolean {
  return representative === "salient" && top > 0;
}

/** Returns a segment that shows no token and tells a backend of the choice. */
function withoutTokens(segment: Segment, choice: Choice): Segment {
  return { ...segment, tokens: { choice, ranks: { from: 0, to: 0 } } };
}

/**
 * Returns the remainder of each query, tokens out of the local band behind its candidates: a segment for each stretch of
 * queries that have equally many candidates. Blocks of one token leave no remainder.
 */
function behindCandidates(far: Segment | null, queries: Interval, values: BlockLayout): Segment[] {
  const { size, local, sinks } = values;
  const segments: (Segment | null)[] = [];
  if (!far || size === 1) return [];
  for (let from = queries.from; from < queries.to;) {
    const candidates = candidatesAt(from, values);
    const to = Math.min(queries.to, sinks + (candidates + 1) * size + local - 1);
    const rest = among(far, { from: sinks + size * candidates, to: Infinity });
    segments.push(rest && askedBy(rest, { from, to }));
    from = to;
  }
  return present(segments);
}
