import type { ModelConfig } from "../../model/config.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { CacheBuffer, SharedRows } from "../state/cache-buffer.ts";
import type { Floats } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";

/** Rows that are converted to codes at once. */
const STAGED_ROWS = 256;
/** The largest D for codes: a sum of 512 products of 8 and 16 bits, 512 · 127 · 32766, is below 2³¹. */
const MOST_COMPACT_CHANNELS = 512;

/** Keys and values of the cache in the memory that kernels share, as floats, or in 8 bits where `fast` allows it. */
export class SharedCache {
  /** Whether keys and values are read in 8 bits; their floats stay in ordinary memory then. */
  readonly compact: boolean;
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #staged: Floats;

  constructor(config: ModelConfig, dense: Dense) {
    this.compact = !dense.exact && config.headSize % 8 === 0 && config.headSize <= MOST_COMPACT_CHANNELS;
    this.#config = config;
    this.#dense = dense;
    this.#staged = dense.floats(STAGED_ROWS * config.headSize);
  }

  /** Where the row of the token that was appended last is written. */
  row(buffer: CacheBuffer, head: number, slot: number): Float32Array {
    return this.compact ? buffer.place(head, slot, slot + 1) : buffer.row(this.#dense.memory, head, slot);
  }

  /** The buffer's rows as kernels read them, after copying what was written since they were last asked for. */
  rows(slots: SlotMap, buffer: CacheBuffer, what: "keys" | "values"): SharedRows {
    if (this.compact) return this.#codes(slots, buffer, what);
    buffer.share(this.#dense.memory, slots.length);
    return buffer.shared!;
  }

  #codes(slots: SlotMap, buffer: CacheBuffer, what: "keys" | "values"): SharedRows {
    const { keyHeads, headSize } = this.#config;
    const { memory, functions } = this.#dense;
    const { stride } = buffer;
    if (buffer.shared?.memory !== memory || buffer.shared.floats) {
      buffer.unshare();
      const rows = keyHeads * stride;
      // Kernels take four rows at a time, so they read up to three rows beyond the last.
      const blocks = [memory.allocate((rows + 4) * headSize), memory.allocate(4 * (rows + 4))];
      buffer.shared = { memory, blocks, floats: null, done: 0 };
    }
    const { shared } = buffer;
    const [codes, scales] = shared.blocks.map(({ address }) => address);
    for (const run of [...slots.runs(shared.done, slots.length), ...(buffer.placed?.moveFrom("ordinary") ?? [])]) {
      for (let head = 0; head < keyHeads; head++) {
        for (let slot = run.from; slot < run.to; slot += STAGED_ROWS) {
          const count = Math.min(STAGED_ROWS, run.to - slot);
          this.#staged.data.set(buffer.view(head, slot, slot + count));
          const from = this.#staged.address;
          const row = head * stride + slot;
          if (what === "keys") functions.compactKeys(from, codes + row * headSize, scales + 4 * row, count, headSize);
          else {
            const place = head * stride;
            functions.compactValues(from, codes + place * headSize, scales + 4 * place, slot, count, headSize);
          }
        }
      }
    }
    shared.done = slots.length;
    return shared;
  }
}
