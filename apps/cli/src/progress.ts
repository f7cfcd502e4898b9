import { duration } from "./format.ts";
import type { Io } from "./io.ts";

/** A line on stderr that says how far a long computation is and how long it will take: rewritten on a terminal, else every ten seconds. */
export class Progress {
  readonly #io: Pick<Io, "err" | "errIsTerminal">;
  readonly #label: string;
  readonly #begin = performance.now();
  #shown = -Infinity;
  #width = 0;

  constructor(io: Pick<Io, "err" | "errIsTerminal">, label: string) {
    this.#io = io;
    this.#label = label;
    if (!io.errIsTerminal) this.#shown = this.#begin; // what is quick says nothing
  }

  /** `text` stands in place of "done of total". */
  update(done: number, total: number, text = `${done} of ${total} tokens`): void {
    const now = performance.now();
    if (now - this.#shown < (this.#io.errIsTerminal ? 100 : 10_000)) return;
    this.#shown = now;
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
