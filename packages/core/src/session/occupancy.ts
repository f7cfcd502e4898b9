import { LongctxError } from "../common/errors.ts";

/** One call at a time: what a session is doing, whether it still can, and what is to be freed once it stops. */
export class Occupancy {
  readonly #free: () => void;
  #busy = false;
  #disposed = false;
  #broken: { readonly cause: unknown; readonly why: string } | null = null;

  constructor(free: () => void) {
    this.#free = free;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** @throws LongctxError "argument" when it is disposed of, at work or broken */
  check(): void {
    if (this.#disposed) throw new LongctxError("argument", "This session was disposed of; start another one.");
    if (this.#busy)
      throw new LongctxError(
        "argument",
        "This session is already reading; await one call before the next, or fork it.",
      );
    if (this.#broken) throw new LongctxError("argument", this.#broken.why, { cause: this.#broken.cause });
  }

  begin(): void {
    this.check();
    this.#busy = true;
  }

  end(): void {
    this.#busy = false;
    if (this.#disposed) this.#free();
  }

  /** Every further use is refused, for the reason given. */
  breakFor(why: string, cause: unknown): void {
    this.#broken = { why, cause };
  }

  /** Frees now, or as soon as the call at work ends. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#busy) this.#free();
  }
}
