import { LongctxError } from "../../common/errors.ts";
import type { Ledger } from "./ledger.ts";

/** Innermost scope first. An allocation that failed makes what uses it invalid, so it is told rather than that. */
const KINDS = ["validation", "internal", "out-of-memory"] as const;
/** Milliseconds in which a device that broke a promise says that it was lost. */
const LOST_WITHIN = 100;

/**
 * What goes wrong on a device arrives late and somewhere else: in scopes, in an event, in a promise. All of it ends here,
 * and is thrown where the host next waits for the device.
 */
export class Failures {
  readonly #device: GPUDevice;
  readonly #name: string;
  readonly #ledger: Ledger;
  /** What failed outside of every scope and was not thrown yet. */
  #first: LongctxError | null = null;
  /** Why every call fails from now on. */
  #lost: LongctxError | null = null;
  #closed = false;

  constructor(device: GPUDevice, name: string, ledger: Ledger) {
    this.#device = device;
    this.#name = name;
    this.#ledger = ledger;
    device.onuncapturederror = ({ error }) => {
      this.#first ??= this.#describe(error);
    };
    void device.lost.then((lost) => this.#lose(lost));
  }

  /** A lost device explains every other error, so it comes first. */
  #lose({ reason, message }: GPUDeviceLostInfo): void {
    if (this.#closed) return;
    this.#lost = new LongctxError(
      "device",
      `The WebGPU device ${this.#name} was lost (${oneLine(message) || reason}); ${this.#ledger.describe()} on it are gone. Load the model again, with a smaller chunk or capacity if it happens again, or use --device cpu.`,
    );
  }

  /** The device was given back on purpose. */
  close(): void {
    this.#closed = true;
    this.#device.onuncapturederror = null;
    this.#lost ??= new LongctxError("device", `The WebGPU device ${this.#name} was closed; load the model again.`);
  }

  /** Throws the first failure there was; one failed call leaves the device usable. */
  check(): void {
    if (this.#lost) throw this.#lost;
    const failure = this.#first;
    this.#first = null;
    if (failure) throw failure;
  }

  /** Waits for the device, and throws what went wrong on it rather than the consequence. */
  async settle<T>(work: Promise<T>): Promise<T> {
    const result = await this.#awaited(work);
    this.check();
    return result;
  }

  async #awaited<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof LongctxError) throw error;
      await this.#lostSoon();
      this.check();
      throw new LongctxError("device", `The WebGPU device ${this.#name} refused its work: ${oneLine(String(error))}`, {
        cause: error,
      });
    }
  }

  /** A lost device is told behind the promises it breaks: right behind them in Dawn, some time later in browsers. */
  async #lostSoon(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, LOST_WITHIN)));
    await Promise.race([this.#device.lost, late]);
    clearTimeout(timer);
  }

  /** Runs calls in error scopes of their own; who uses what they answer awaits `told` before, which says how they went. */
  scoped<Result>(calls: () => Result): Scoped<Result> {
    for (const kind of KINDS.toReversed()) this.#device.pushErrorScope(kind);
    const pop = () => KINDS.map(() => this.#device.popErrorScope());
    let result: Result;
    try {
      result = calls();
    } catch (error) {
      for (const scope of pop()) scope.catch(() => undefined);
      throw error;
    }
    const told = this.#tell(pop());
    told.catch(() => undefined); // who never asks need not know
    return { result, told };
  }

  async #tell(scopes: readonly Promise<GPUError | null>[]): Promise<void> {
    const errors = await this.#awaited(Promise.all(scopes));
    const error = errors.findLast((found) => found !== null);
    if (!error) return;
    if (this.#lost) throw this.#lost;
    throw this.#describe(error);
  }

  #describe(error: GPUError): LongctxError {
    const message = oneLine(error.message);
    if (error.constructor.name === "GPUOutOfMemoryError")
      return new LongctxError(
        "device",
        `${this.#name} is out of memory with ${this.#ledger.describe()} on it (${message}). Give a smaller capacity or chunk, dispose of sessions that are done, or use --device cpu.`,
      );
    return new LongctxError("device", `${this.#name} refused its work: ${message}`, { cause: error });
  }
}

export interface Scoped<Result> {
  readonly result: Result;
  /** Rejects with what the device said of the calls; unhandled it is silent. */
  readonly told: Promise<void>;
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, "; ");
}
