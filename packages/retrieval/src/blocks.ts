import {
  among,
  askedBy,
  constantPosition,
  defineMethod,
  LongctxError,
  within,
  type Choice,
  type PositionRule,
  type Segment,
} from "@longctx/core";

/**
 * Block retrieval: a query sees the first tokens, the last tokens, and those blocks of older tokens whose mean keys
 * score highest against the mean query of its group of tokens. Xiao et al., "InfLLM: Training-Free Long-Context
 * Extrapolation for LLMs with an Efficient Context Memory", 2024 (arXiv:2402.04617), section 3; positions=ordered as in
 * Liu et al., "ReAttention: Training-Free Infinite Context with Finite Attention Scope", 2024 (arXiv:2407.15176).
 * `size`, `local`, `sinks` and `exec` are in tokens, `top` in blocks; `positions` is "constant" or "ordered".
 * @throws LongctxError "method"
 */
export const blocks = defineMethod({
  name: "blocks",
  axes: ["visibility", "distance"],
  summary: "See the first tokens, the last ones, and the blocks between that the queries choose.",
  definition:
    "block j = tokens [sinks + j·size, sinks + (j+1)·size), a candidate once m₀ − n ≥ local for all of them, m₀ the first query of the group; the top candidates by Σ_h q̄_h·k̄_j (q̄ the group's mean query at local − 1, k̄ the block's mean key at 0) are visible, and sinks, 0 ≤ m − n < local, and what is neither; g = m − n within local, else local − 1 (constant), or the distance counted over visible tokens alone (ordered)",
  paper: "Xiao et al. 2024, arXiv:2402.04617, section 3 (constant); Liu et al. 2024, arXiv:2407.15176 (ordered)",
  deviations:
    "A block is represented by the mean of its keys instead of the mean of its most attended ones. All heads and all tokens of a group share one choice, so a token of the group may choose with what the tokens up to exec − 1 ahead of it ask; generated tokens choose for themselves. Tokens that left the local band within a group, and those whose block is not complete, stay visible. A layer with a sliding window of its own keeps it, and retrieves nothing.",
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
    positions: {
      about: "old tokens all at distance local − 1 (constant), or visible tokens one after another (ordered)",
      unit: "choice",
      choices: ["constant", "ordered"],
      default: "constant",
    },
    exec: {
      about: "tokens of a group, which is read at once and chooses together",
      unit: "tokens",
      default: 512,
      min: 1,
      max: 16_384,
      integer: true,
    },
  },
  create: (values) => ({
    check: ({ config }) => {
      if (config.slidingWindows.every((window) => window !== null))
        throw new LongctxError(
          "method",
          "blocks: every layer of the model has a sliding window of its own, beyond which nothing is retrieved; use a model with layers that see the whole text.",
        );
    },
    segments: (segments, { first, count, layer, config }) => {
      if (config.slidingWindows[layer]) return [...segments];
      return groupsOf(first, count, values.exec).flatMap((group, _, groups) =>
        segments.flatMap((segment) => {
          const seen = (values.positions === "constant" ? atOneDistance : inOrder)(segment, group, values);
          return groups.length === 1 ? seen : seen.flatMap((one) => askedBy(one, group) ?? []);
        }),
      );
    },
    groupSize: values.exec,
    rawKeys: true,
    span:
      values.positions === "constant"
        ? values.local
        : values.sinks + (values.top + 1) * values.size + values.local + values.exec,
  }),
});

interface Values {
  readonly size: number;
  readonly top: number;
  readonly local: number;
  readonly sinks: number;
}

interface Group {
  readonly from: number;
  readonly to: number;
}

/** Splits queries [first, first + count) into their groups, which end at multiples of `exec` tokens in the text. */
function groupsOf(first: number, count: number, exec: number): Group[] {
  const groups: Group[] = [];
  for (let from = first; from < first + count;) {
    const to = Math.min(first + count, (Math.floor(from / exec) + 1) * exec);
    groups.push({ from, to });
    from = to;
  }
  return groups;
}

/** Returns the choice of blocks for a group of queries, and `rest`, the first token after all candidate blocks. */
function choiceOf(
  { table }: Segment,
  group: Group,
  { size, top, local, sinks }: Values,
): { choice: Choice; rest: number } {
  const candidates = Math.max(0, Math.floor((group.from - local + 1 - sinks) / size));
  const choice: Choice = {
    id: `blocks of ${group.from}`,
    size,
    from: sinks,
    candidates,
    count: Math.min(top, candidates),
    asking: group,
    table,
    position: local - 1,
  };
  return { choice, rest: sinks + size * candidates };
}

/** Gives all tokens outside of the local band the same distance, local − 1 (positions=constant). */
function atOneDistance(segment: Segment, group: Group, values: Values): Segment[] {
  const { choice, rest } = choiceOf(segment, group, values);
  const near = within(segment, { from: -Infinity, to: values.local });
  const far = within(
    { ...segment, queryPosition: constantPosition(values.local - 1), keyPosition: constantPosition(0) },
    { from: values.local, to: Infinity },
  );
  if (!far || choice.candidates === 0) return [near, far].filter((one) => one !== null);
  const chosen = choice.count > 0 ? { ...far, tokens: { choice, ranks: { from: 0, to: choice.count } } } : null;
  return [near, among(far, { from: 0, to: values.sinks }), chosen, among(far, { from: rest, to: Infinity })].filter(
    (one) => one !== null,
  );
}

/**
 * Gives visible tokens consecutive positions, without gaps for hidden tokens (positions=ordered): keys of a chosen
 * block get their offset in the block, and queries are moved to meet each block at the right distance.
 */
function inOrder(segment: Segment, group: Group, values: Values): Segment[] {
  const { size, sinks } = values;
  const { choice, rest } = choiceOf(segment, group, values);
  const { count } = choice;
  if (choice.candidates === 0) return [segment];
  const offset: PositionRule = { id: `(n−${sinks}) mod ${size}`, at: (token) => (token - sinks) % size };
  const old = among({ ...segment, queryPosition: backBy(rest - sinks - count * size) }, { from: 0, to: sinks });
  const chosen = Array.from({ length: count }, (_, rank): Segment => {
    // The position where the block of this rank begins when visible tokens have consecutive positions.
    const begin = rest - (count - rank) * size;
    return {
      ...segment,
      queryPosition: backBy(begin),
      keyPosition: offset,
      tokens: { choice, ranks: { from: rank, to: rank + 1 } },
    };
  });
  return [old, ...chosen, among(segment, { from: rest, to: Infinity })].filter((one) => one !== null);
}

/** Returns the rule that puts a query `tokens` positions before its index in the text. */
function backBy(tokens: number): PositionRule {
  return { id: tokens === 0 ? "text" : `m−${tokens}`, at: (query) => query - tokens };
}
