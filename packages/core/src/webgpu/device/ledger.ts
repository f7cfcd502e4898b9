import type { DeviceMemory } from "../../backend/backend.ts";
import { listed } from "../../common/errors.ts";

/** What buffers are for: trials are those of `tune`, and only tests have the last. */
export type Purpose = "weights" | "cache" | "activations" | "tables" | "uniforms" | "readback" | "trials" | "test";

/** Bytes on the device by purpose, so that nothing leaks unseen and a failed allocation can say what holds the memory. */
export class Ledger {
  readonly #bytes = new Map<Purpose, number>();
  #peak = 0;

  add(purpose: Purpose, bytes: number): void {
    this.#bytes.set(purpose, (this.#bytes.get(purpose) ?? 0) + bytes);
    this.#peak = Math.max(this.#peak, this.total);
  }

  remove(purpose: Purpose, bytes: number): void {
    this.add(purpose, -bytes);
  }

  of(purpose: Purpose): number {
    return this.#bytes.get(purpose) ?? 0;
  }

  get total(): number {
    return [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** As users are told. */
  get memory(): DeviceMemory {
    const [weights, cache] = [this.of("weights"), this.of("cache")];
    return { weights, cache, scratch: this.total - weights - cache, peak: this.#peak };
  }

  /** "98 MiB of weights and 12 MiB of cache". */
  describe(): string {
    const parts = [...this.#bytes]
      .filter(([, bytes]) => bytes > 0)
      .map(([what, bytes]) => `${mebibytes(bytes)} of ${what}`);
    return parts.length > 0 ? listed(parts).replace(/ or (?=[^,]*$)/, " and ") : "nothing";
  }
}

export function mebibytes(bytes: number): string {
  const size = bytes / 2 ** 20;
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} MiB`;
}
