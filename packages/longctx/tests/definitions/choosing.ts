/** How a definition chooses, and how a device's choice is judged. */

/** What a definition asks when something is to be chosen for some heads of a layer. */
export interface Decision {
  readonly layer: number;
  /** The text index of the first token that asks. */
  readonly query: number;
  /** The query heads that share the choice. */
  readonly heads: readonly number[];
  /** The first token of each candidate, ascending. */
  readonly candidates: readonly number[];
  /** One score a candidate. */
  readonly scores: readonly number[];
  /** How many are wanted; fewer candidates are all taken. */
  readonly count: number;
}

/** The tokens that a query head sees, ascending: under the layer's softmax, and under a softmax of their own. */
export interface Seen {
  readonly softmax: readonly number[];
  readonly gated: readonly number[];
}

/** Decides what is chosen, and is told what every query head sees. */
export interface Witness {
  /** Returns the indices of the chosen candidates. */
  choose(decision: Decision): readonly number[];
  saw?(layer: number, query: number, head: number, seen: Seen): void;
}

/** The indices of the `count` largest scores, ascending; of equal ones the first. */
export function best(scores: readonly number[], count: number): number[] {
  const order = scores.map((_, j) => j).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/**
 * How much the worst chosen candidate is ahead of the best one left out, in units of the largest |score|: negative when a
 * better one was left out, Infinity when nothing was.
 */
export function margin(scores: readonly number[], chosen: readonly number[]): number {
  const inside = new Set(chosen);
  const left = scores.filter((_, j) => !inside.has(j));
  if (left.length === 0 || chosen.length === 0) return Infinity;
  const worst = Math.min(...chosen.map((j) => scores[j]));
  return (worst - Math.max(...left)) / Math.max(...scores.map(Math.abs));
}

/** Choices this near to each other may fall either way on a device, by what it keeps of a key. */
export const TIE = { "32 bits": 1e-5, "16 bits": 1e-2 } as const;

/** Takes the best, whatever the margin. */
export const plainly: Witness = { choose: ({ scores, count }) => best(scores, count) };

/**
 * Takes the best where the margin is far above a device's rounding. Equal scores are clear too: they belong to equal
 * keys of a first layer, where equal tokens have equal values, so that it does not matter which is taken.
 */
export function foretold(clear: number): Witness {
  return {
    choose({ layer, query, scores, count }) {
      const chosen = best(scores, count);
      const ahead = margin(scores, chosen);
      if (ahead !== 0 && ahead <= clear)
        throw new Error(`A choice of layer ${layer} at token ${query} is not clear (${ahead}): take another seed`);
      return chosen;
    },
  };
}

/** What a device reports, by layer, query and head. */
export class Report {
  readonly #seen = new Map<string, Seen>();

  add(layer: number, query: number, head: number, seen: Seen): void {
    this.#seen.set(`${layer} ${query} ${head}`, seen);
  }

  of(layer: number, query: number, head: number): Seen {
    const seen = this.#seen.get(`${layer} ${query} ${head}`);
    if (!seen) throw new Error(`Layer ${layer} did not report what head ${head} of query ${query} sees`);
    return seen;
  }
}

/** Takes what a device reports, when nothing left out is better than what was taken by more than a tie. */
export function accepting(report: Report, tie: number): Witness {
  return { ...reported(report), choose: (decision) => taken(report, decision, tie) };
}

/** Takes what a device reports, when it is as many as wanted. */
export function acceptingAny(report: Report): Witness {
  return { ...reported(report), choose: (decision) => taken(report, decision, Infinity) };
}

/** Compares what a device's heads saw with what the definition says. @throws Error where a token is too many or missing */
export function reported(report: Report): Required<Pick<Witness, "saw">> {
  return {
    saw: (layer, query, head, seen) => {
      const device = report.of(layer, query, head);
      for (const part of ["softmax", "gated"] as const)
        if (String(device[part]) !== String(seen[part]))
          throw new Error(
            `Layer ${layer}, query ${query}, head ${head} sees ${device[part].join()} (${part}) in place of ${seen[part].join()}`,
          );
    },
  };
}

function taken(report: Report, decision: Decision, tie: number): readonly number[] {
  const { layer, query, heads, candidates, scores, count } = decision;
  const { softmax, gated } = report.of(layer, query, heads[0]);
  const seen = new Set([...softmax, ...gated]);
  const found = candidates.flatMap((token, j) => (seen.has(token) ? [j] : []));
  const ahead = margin(scores, found);
  if (found.length === Math.min(count, candidates.length) && ahead >= -tie) return found;
  throw new Error(
    `Layer ${layer}, query ${query}, heads ${heads.join()}: chose ${found.join()} by ${ahead} in place of ${best(scores, count).join()}`,
  );
}
