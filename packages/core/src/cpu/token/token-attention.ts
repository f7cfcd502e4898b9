import type { ModelConfig } from "../../model/config.ts";
import type { SlotMap } from "../../state/slots.ts";
import { RAW, turnRows } from "../../positions/rotation.ts";
import { AttentionParts, type LaneKeys } from "./attention-parts.ts";
import type { CacheBuffer, SharedRows } from "../state/cache-buffer.ts";
import type { CpuState } from "../state/cpu-state.ts";
import type { Dense, Floats } from "./dense.ts";
import type { TokenPlan } from "./token-plan.ts";

/** Rows that are converted to codes at once. */
const STAGED_ROWS = 256;
/** The largest D for codes: a sum of 512 products of 8 and 16 bits, 512 · 127 · 32766, is below 2³¹. */
const MOST_COMPACT_CHANNELS = 512;

/** Attention of one token over the lanes of a plan, in the memory that kernels share. */
export class TokenAttention {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #compact: boolean;
  readonly #staged: Floats;
  readonly #parts: AttentionParts;

  /** `fast` reads keys and values in 8 bits. */
  constructor(config: ModelConfig, dense: Dense) {
    this.#config = config;
    this.#dense = dense;
    this.#compact = !dense.exact && config.headSize % 8 === 0 && config.headSize <= MOST_COMPACT_CHANNELS;
    this.#staged = dense.floats(STAGED_ROWS * config.headSize);
    this.#parts = new AttentionParts(config, dense, this.#compact);
  }

  /** Writes the token's keys into every copy, and its values; `projected` is its q, k and v side by side. */
  store(state: CpuState, layer: number, { token, rotations, turns }: TokenPlan, projected: Float32Array): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { slots, copies, values } = state.layers[layer];
    const slot = slots.slotOf(token);
    const row = (buffer: CacheBuffer, head: number): Float32Array =>
      this.#compact ? buffer.place(head, slot, slot + 1) : buffer.row(this.#dense.memory, head, slot);
    for (let head = 0; head < keyHeads; head++) {
      const at = (queryHeads + head) * headSize;
      const key = projected.subarray(at, at + headSize);
      rotations.forEach(({ rotation: { id }, keys }, i) => {
        const copy = keys && copies.get(id);
        if (copy) turnRows(key, row(copy.buffer, head), headSize, turns[i]);
      });
      const value = at + keyHeads * headSize;
      row(values, head).set(projected.subarray(value, value + headSize));
    }
  }

  /** Writes the attention's output into `attended` [H, D]. */
  attend(state: CpuState, layer: number, plan: TokenPlan, projected: Float32Array, attended: Floats): void {
    if (plan.lanes.length === 0) {
      attended.data.fill(0);
      return;
    }
    const { slots, copies, values } = state.layers[layer];
    const keys = new Map<string, LaneKeys>();
    for (const { keys: id } of plan.lanes) {
      if (keys.has(id)) continue;
      const copy = copies.get(id);
      const rows = this.#shared(slots, (copy ?? copies.get(RAW)!).buffer, "keys");
      keys.set(id, { rows, raw: !copy });
    }
    this.#parts.attend(values.stride, plan, keys, this.#shared(slots, values, "values"), projected, attended);
  }

  /** The buffer's rows as kernels read them, after copying what was written since they were last asked for. */
  #shared(slots: SlotMap, buffer: CacheBuffer, what: "keys" | "values"): SharedRows {
    if (this.#compact) return this.#codes(slots, buffer, what);
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
