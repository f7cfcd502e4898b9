import { LongctxError } from "../errors.ts";
import type { Ledger } from "./ledger.ts";

/**
 * What goes wrong on a device arrives late and somewhere else: in scopes, in an event, in a promise. All of it ends here,
 * and is thrown where the host next waits for the device.
 */
export class Failures {
  readonly #device: GPUDevice;
  readonly #name: string;
  readonly #ledger: Ledger;
  #first: LongctxError | null = null;
  #closed = false;

  constructor(device: GPUDevice, name: string, ledger: Ledger) {
    this.#device = device;
    this.#name = name;
    this.#ledger = ledger;
    device.onuncapturederror = ({ error }) => this.#note(this.#describe(error));
    void device.lost.then((lost) => this.#lost(lost));
  }

  /** A lost device explains every other error, so it comes first. */
  #lost({ reason, message }: GPUDeviceLostInfo): void {
    if (this.#closed) return;
    this.#first = new LongctxError(
      "device",
      `The WebGPU device ${this.#name} was lost (${oneLine(message) || reason}); ${this.#ledger.describe()} on it are gone. Load the model again, with a smaller chunk or capacity if it happens again, or use --device cpu.`,
    );
  }

  /** The device was given back on purpose. */
  close(): void {
    this.#closed = true;
    this.#device.onuncapturederror = null;
    this.#first ??= new LongctxError("device", `The WebGPU device ${this.#name} was closed; load the model again.`);
  }

  /** Throws the first failure there was. */
  check(): void {
    if (!this.#first) return;
    const failure = this.#first;
    // One failed call leaves the device usable; a lost or closed one fails for ever.
    if (!this.#closed && !failure.message.includes(" was lost ")) this.#first = null;
    throw failure;
  }

  /** Waits for the device, and throws what went wrong on it rather than the consequence. */
  async settle<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await work;
      this.check();
      return result;
    } catch (error) {
      if (error instanceof LongctxError) throw error;
      await Promise.resolve(); // a lost device is told right after the promises it breaks
      this.check();
      throw new LongctxError("device", `The WebGPU device ${this.#name} refused its work: ${oneLine(String(error))}`, {
        cause: error,
      });
    }
  }

  /** Runs calls that fill the error scopes; what they say is thrown by the promise. */
  async guard(calls: () => void): Promise<void> {
    const kinds = ["internal", "out-of-memory", "validation"] as const;
    for (const kind of kinds) this.#device.pushErrorScope(kind);
    let scopes: Promise<GPUError | null>[] = [];
    try {
      calls();
    } finally {
      scopes = kinds.map(() => this.#device.popErrorScope());
    }
    const errors = await this.settle(Promise.all(scopes));
    const error = errors.find((found) => found !== null);
    if (error) throw this.#describe(error);
  }

  #note(error: LongctxError): void {
    this.#first ??= error;
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

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, "; ");
}
