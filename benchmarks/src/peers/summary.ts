import { median } from "../timing.ts";
import type { Settings } from "./protocol.ts";

export const PHASES = ["prefill", "decode"] as const;
export type Phase = (typeof PHASES)[number];

/** Tokens per second, round by round. */
export interface Rates {
  readonly best: number;
  readonly median: number;
  readonly rounds: readonly number[];
  readonly settings: Settings;
}

export interface ContenderResult {
  readonly name: string;
  readonly ours: boolean;
  readonly prefill: Rates;
  readonly decode: Rates;
  /** The first greedy tokens after the text. */
  readonly continuation: readonly number[];
}

/** Ours over the fastest peer, round by round, so that what slows the machine down for a while weighs on both. */
export interface Ratio {
  readonly name: string;
  readonly phase: Phase;
  /** The peer with the largest median. */
  readonly fastestPeer: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface LengthResult {
  readonly tokens: number;
  readonly contenders: readonly ContenderResult[];
  readonly ratios: readonly Ratio[];
}

export function rates(rounds: readonly number[], settings: Settings): Rates {
  return { best: Math.max(...rounds), median: median(rounds), rounds, settings };
}

export function ratiosOf(contenders: readonly ContenderResult[]): Ratio[] {
  const peers = contenders.filter(({ ours }) => !ours);
  if (peers.length === 0) return [];
  return contenders
    .filter(({ ours }) => ours)
    .flatMap(({ name, ...result }) =>
      PHASES.map((phase) => {
        const quotients = result[phase].rounds.map(
          (rate, round) => rate / Math.max(...peers.map((peer) => peer[phase].rounds[round])),
        );
        return {
          name,
          phase,
          fastestPeer: peers.reduce((a, b) => (b[phase].median > a[phase].median ? b : a)).name,
          median: median(quotients),
          min: Math.min(...quotients),
          max: Math.max(...quotients),
        };
      }),
    );
}
