import { LongctxError } from "../common/errors.ts";

/**
 * A guard that lets a session run one call at a time. It refuses calls while another call runs, after a failure that
 * cannot be undone and after `dispose`, and frees the session's state as soon as no call uses it.
 */
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

  /**
   * Refuses a new call.
   * @throws LongctxError "argument" when the session was disposed of, is in another call or is broken
   */
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

  /** Marks the session as broken: every further call throws an error with the message `why`. */
  breakFor(why: string, cause: unknown): void {
    this.#broken = { why, cause };
  }

  /** Frees the session's state, now or when the running call ends. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#busy) this.#free();
  }
}
