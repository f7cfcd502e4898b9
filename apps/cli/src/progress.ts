import { duration } from "./format.ts";
import type { Io } from "./io.ts";

/** ms between two lines. */
const INTERVAL = { terminal: 100, plain: 10_000 } as const;

/**
 * A line on stderr that says how far a long computation is and how long it will take: rewritten on a terminal, else every
 * ten seconds. Of what is done before `after` ms it says nothing.
 */
export class Progress {
  readonly #io: Pick<Io, "err" | "errIsTerminal">;
  readonly #label: string;
  readonly #begin = performance.now();
  #next: number;
  #width = 0;

  constructor(io: Pick<Io, "err" | "errIsTerminal">, label: string, after = 0) {
    this.#io = io;
    this.#label = label;
    // What is quick says nothing where lines stay.
    this.#next = this.#begin + Math.max(after, io.errIsTerminal ? 0 : INTERVAL.plain);
  }

  /** `text` stands in place of "done of total". */
  update(done: number, total: number, text = `${done} of ${total} tokens`): void {
    const now = performance.now();
    if (now < this.#next) return;
    this.#next = now + (this.#io.errIsTerminal ? INTERVAL.terminal : INTERVAL.plain);
    const rest =
      done > 0 && total > done
        ? `, about ${duration((((now - this.#begin) / 1000) * (total - done)) / done)} left`
        : "";
    const line = `${this.#label} ${text}${rest}`;
    this.#io.err(this.#io.errIsTerminal ? `\r${line.padEnd(this.#width)}` : `${line}\n`);
    this.#width = line.length;
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#io.errIsTerminal && this.#width > 0) this.#io.err(`\r${" ".repeat(this.#width)}\r`);
    this.#width = 0;
  }
}
