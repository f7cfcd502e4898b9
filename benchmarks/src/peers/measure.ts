import { readingWork, type Progress } from "../progress.ts";
import type { Contender } from "./contender.ts";
import type { Settings } from "./protocol.ts";
import { PHASES, ratiosOf, rates, type LengthResult, type Phase } from "./summary.ts";

/** A setting that was this much slower at a length than the best is not tried at longer ones. */
const HOPELESS = 2 / 3;
/** Threads of one engine wait for more work before they sleep; the next one should not share the cores with them. */
const PAUSE_MS = 500;
const CONTINUATION = 8;

export interface Measured extends Readonly<Record<Phase, number>> {
  readonly tokens: readonly number[];
}

export interface Plan {
  /** The text; each length takes its beginning. */
  readonly ids: readonly number[];
  readonly decodeTokens: number;
  readonly rounds: number;
}

/** One engine with what is known of its settings. */
export class Entrant {
  readonly contender: Contender;
  /** Not yet found hopeless. */
  choices: readonly Settings[];

  constructor(contender: Contender) {
    this.contender = contender;
    this.choices = contender.definition.choices;
  }

  get name(): string {
    return this.contender.definition.name;
  }

  /** Tokens per second of one run. */
  async run({ ids, decodeTokens }: Plan, length: number, settings: Settings): Promise<Measured> {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const prefilled = await this.contender.prefill(ids.slice(0, length), decodeTokens, settings);
    const decoded = await this.contender.decode(decodeTokens);
    return {
      prefill: length / prefilled.seconds,
      decode: decodeTokens / decoded.seconds,
      tokens: [prefilled.token, ...decoded.tokens],
    };
  }
}

/** The fastest settings of each phase at a length; those that are hopeless in both are dropped. */
async function tune(
  entrant: Entrant,
  plan: Plan,
  length: number,
  progress: Progress,
): Promise<Readonly<Record<Phase, Settings>>> {
  const [only, ...others] = entrant.choices;
  if (others.length === 0) return { prefill: only, decode: only };
  // Counted were all there were at first.
  progress.skip((entrant.contender.definition.choices.length - entrant.choices.length) * readingWork(length));
  const measured: { settings: Settings; rate: Measured }[] = [];
  for (const settings of entrant.choices) {
    const rate = await entrant.run(plan, length, settings);
    measured.push({ settings, rate });
    progress.step(
      `${length} tokens, settings: ${entrant.name} ${JSON.stringify(settings)} ${ratesText(rate)}`,
      readingWork(length),
    );
  }
  const best = (phase: Phase) => measured.reduce((a, b) => (b.rate[phase] > a.rate[phase] ? b : a));
  entrant.choices = measured
    .filter(({ rate }) => PHASES.some((phase) => rate[phase] > HOPELESS * best(phase).rate[phase]))
    .map(({ settings }) => settings);
  return { prefill: best("prefill").settings, decode: best("decode").settings };
}

/** The work of `measureLength` for the progress line. */
export function lengthWork(entrants: readonly Entrant[], rounds: number, length: number): number {
  const tries = entrants.reduce((sum, { choices }) => sum + (choices.length > 1 ? choices.length : 0), 0);
  return (entrants.length * rounds + tries) * readingWork(length);
}

/** All engines in turn, round after round, so that noise hits all alike. */
export async function measureLength(
  entrants: readonly Entrant[],
  plan: Plan,
  length: number,
  progress: Progress,
): Promise<LengthResult> {
  const runs = await sequentially(entrants, async (entrant) => ({
    entrant,
    best: await tune(entrant, plan, length, progress),
    rounds: [] as Measured[],
  }));
  for (let round = 1; round <= plan.rounds; round++) {
    for (const { entrant, best, rounds } of runs) {
      const together = best.prefill === best.decode;
      const first = await entrant.run(plan, length, best.prefill);
      const second = together ? first : await entrant.run(plan, length, best.decode);
      const rate = { ...first, decode: second.decode };
      rounds.push(rate);
      progress.step(
        `${length} tokens, round ${round} of ${plan.rounds}: ${entrant.name} ${ratesText(rate)}`,
        readingWork(length),
      );
    }
  }
  const results = runs.map(({ entrant, best, rounds }) => ({
    name: entrant.name,
    ours: entrant.contender.definition.ours,
    prefill: rates(
      rounds.map(({ prefill }) => prefill),
      best.prefill,
    ),
    decode: rates(
      rounds.map(({ decode }) => decode),
      best.decode,
    ),
    continuation: rounds[0].tokens.slice(0, CONTINUATION),
  }));
  return { tokens: length, contenders: results, ratios: ratiosOf(results) };
}

export async function sequentially<In, Out>(items: readonly In[], step: (item: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  for (const item of items) results.push(await step(item));
  return results;
}

function ratesText({ prefill, decode }: Measured): string {
  return `prefill ${prefill.toFixed(0)} tok/s, decode ${decode.toFixed(1)} tok/s`;
}
