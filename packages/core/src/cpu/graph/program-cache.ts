import type { EncodedGraph } from "./graph.ts";
import { Program } from "./runtime.ts";

/** Compiled graphs by what makes them differ; the one not used for longest goes first. */
export class ProgramCache {
  readonly #programs = new Map<string, Program>();
  readonly #limit: number;
  readonly #threads: number;

  constructor(limit: number, threads: number) {
    this.#limit = limit;
    this.#threads = threads;
  }

  async get(key: string, graph: () => EncodedGraph): Promise<Program> {
    const known = this.#programs.get(key);
    if (known) {
      this.#programs.delete(key); // to the end: a Map keeps the order of insertion
      this.#programs.set(key, known);
      return known;
    }
    // Before the new one, so that two with weights are never held at once beyond the limit.
    while (this.#programs.size >= this.#limit) {
      const [oldest, program] = this.#programs.entries().next().value!;
      this.#programs.delete(oldest);
      await program.release();
    }
    const program = await Program.compile(graph(), this.#threads);
    this.#programs.set(key, program);
    return program;
  }

  async release(): Promise<void> {
    const programs = [...this.#programs.values()];
    this.#programs.clear();
    await Promise.all(programs.map((program) => program.release()));
  }
}
