import type { Job } from "./schedule.ts";

interface Cost {
  samples: number;
  time: number;
}

/**
 * How long the rest of a run takes, by what samples of the same method and length took so far; for a kind that was not
 * measured yet, by the nearest that was: another method at this length, else the cost of a token at another length.
 */
export class Estimate {
  readonly #byKind = new Map<string, Cost>();
  readonly #byLength = new Map<number, Cost>();

  /** `time` in ms. */
  add({ cell, method }: Job, time: number): void {
    for (const [costs, key] of [
      [this.#byKind, kindOf({ cell, method })],
      [this.#byLength, cell.length],
    ] as [Map<string | number, Cost>, string | number][]) {
      const cost = costs.get(key) ?? { samples: 0, time: 0 };
      costs.set(key, { samples: cost.samples + 1, time: cost.time + time });
    }
  }

  /** ms for one sample; null before the first was measured. */
  of(job: Job): number | null {
    const known = this.#byKind.get(kindOf(job)) ?? this.#byLength.get(job.cell.length);
    if (known) return known.time / known.samples;
    const lengths = [...this.#byLength.keys()];
    if (lengths.length === 0) return null;
    const nearest = lengths.reduce((best, length) =>
      Math.abs(length - job.cell.length) < Math.abs(best - job.cell.length) ? length : best,
    );
    const cost = this.#byLength.get(nearest)!;
    return (cost.time / cost.samples) * (job.cell.length / nearest);
  }

  /** ms for all of them; null before the first was measured. */
  rest(jobs: readonly Job[]): number | null {
    let sum = 0;
    for (const job of jobs) {
      const time = this.of(job);
      if (time === null) return null;
      sum += time;
    }
    return sum;
  }
}

function kindOf({ cell, method }: Job): string {
  return `${cell.length} ${method.label}`;
}
