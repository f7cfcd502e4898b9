import { sees, type Method, type ModelConfig } from "@longctx/core";
import { compose } from "@longctx/core";

export interface DistancesOptions {
  /** The number of tokens, from the first on, whose distances are wanted; all up to the query unless given. */
  readonly tokens?: number;
  /** N, tokens; without it the query is the prompt's last token. */
  readonly promptLength?: number;
}

/** The distance at which query m meets each token 0 … m under a method; null where it sees none. */
export function distances(
  method: Method,
  config: ModelConfig,
  m: number,
  { tokens = m + 1, promptLength = m + 1 }: DistancesOptions = {},
): (number | null)[] {
  const plan = compose(method).plan({
    config,
    trainedWindow: config.trainedWindow,
    first: m,
    count: 1,
    length: m + 1,
    promptLength,
    layer: 0,
  });
  return Array.from({ length: tokens }, (_, n) => {
    const through = plan.segments.filter((segment) => sees(segment, m, n));
    if (through.length > 1) throw new Error(`Query ${m} meets token ${n} in ${through.length} segments.`);
    return through.length === 0 ? null : through[0].queryPosition.at(m) - through[0].keyPosition.at(n);
  });
}
