/** A line on stderr for each step of a long run, with how long the rest will take by the work done so far. */
export class Progress {
  readonly #begin = performance.now();
  #left: number;
  #done = 0;
  #last = performance.now();

  /** `work` is all there is to do, in any unit. */
  constructor(work: number) {
    this.#left = work;
  }

  step(text: string, work: number): void {
    const now = performance.now();
    const took = ((now - this.#last) / 1000).toFixed(1);
    this.#last = now;
    this.#done += work;
    this.#left = Math.max(0, this.#left - work);
    const rest = ((now - this.#begin) / 1000 / this.#done) * this.#left;
    process.stderr.write(`${text} [${took} s]${rest > 0 ? `, about ${duration(rest)} left` : ""}\n`);
  }

  /** Work that turned out not to be needed. */
  skip(work: number): void {
    this.#left = Math.max(0, this.#left - work);
  }
}

/** The work of reading a text, up to a factor: attention grows with the square, and is half of it near 3000 tokens. */
export function readingWork(tokens: number): number {
  return tokens * (1 + tokens / 3000);
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
