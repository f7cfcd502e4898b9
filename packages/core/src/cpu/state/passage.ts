import type { AttentionPlan } from "../../method/plan.ts";
import type { TokenSlots } from "../../state/slots.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { ForwardRequest } from "../../backend/backend.ts";
import { LongctxError } from "../../common/errors.ts";
import type { LayerView } from "../../method/method.ts";
import { angles, anglesFrom, turnRows, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import { sourceOf } from "../../state/key-copies.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import type { CpuState } from "./cpu-state.ts";
import type { FarRows } from "../far/far-rows.ts";

/** A chunk on its way through the decoder. */
export interface Passage {
  readonly state: CpuState;
  readonly request: ForwardRequest;
  /** Text index of the chunk's first token. */
  readonly first: number;
  readonly count: number;
  /** Embedded tokens [count, hidden]. */
  readonly hidden: Float32Array;
  /** Where the logits of the last `logitRows` rows go, [logitRows, V]. */
  readonly logits: Float32Array;
  readonly logitRows: number;
}

/** What is made of a plan and of the slots of a ring: once for all layers that have both. */
export class PerPlan<Made> {
  readonly #made = new Map<TokenSlots, Map<AttentionPlan, Made>>();

  get(plan: AttentionPlan, slots: TokenSlots, make: () => Made): Made {
    let ofSlots = this.#made.get(slots);
    if (!ofSlots) this.#made.set(slots, (ofSlots = new Map()));
    let made = ofSlots.get(plan);
    if (made === undefined) ofSlots.set(plan, (made = make()));
    return made;
  }
}

/** What a hook sees of a layer: queries, keys and values of the chunk from its projection, those of older tokens from the cache. */
export class CpuLayerView implements LayerView {
  readonly layer: number;
  readonly first: number;
  readonly count: number;
  readonly #config: ModelConfig;
  readonly #state: CpuState;
  readonly #projected: Float32Array;

  constructor(
    config: ModelConfig,
    state: CpuState,
    layer: number,
    first: number,
    count: number,
    projected: Float32Array,
  ) {
    this.#config = config;
    this.#state = state;
    this.layer = layer;
    this.first = first;
    this.count = count;
    this.#projected = projected;
  }

  queries(): Float32Array {
    return this.#columns(0, this.#config.queryHeads, 0, this.count);
  }

  keys(range: { from: number; to: number }): Float32Array {
    // The first chunk's queries are known before there is any copy, and there are no older keys to look up then.
    const { copies, cold } = this.#state.layers[this.layer];
    const copy = range.from < this.first ? sourceOf(copies) : undefined;
    return this.#rows(range, this.#config.queryHeads, copy?.buffer, copy?.rotation ?? null, cold?.keys);
  }

  values(range: { from: number; to: number }): Float32Array {
    const { values, cold } = this.#state.layers[this.layer];
    return this.#rows(range, this.#config.queryHeads + this.#config.keyHeads, values, null, cold?.values);
  }

  /** The columns of `heads` heads in rows [from, to) of the projection, [to − from, heads, D]. */
  #columns(firstHead: number, heads: number, from: number, to: number): Float32Array {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const stride = (queryHeads + 2 * keyHeads) * headSize;
    const out = new Float32Array((to - from) * heads * headSize);
    for (let row = from; row < to; row++)
      out.set(
        this.#projected.subarray(row * stride + firstHead * headSize, row * stride + (firstHead + heads) * headSize),
        (row - from) * heads * headSize,
      );
    return out;
  }

  #rows(
    { from, to }: { from: number; to: number },
    firstHead: number,
    buffer: CacheBuffer | undefined,
    rotation: Rotation | null,
    far: FarRows | undefined,
  ): Float32Array {
    const { keyHeads, headSize } = this.#config;
    const width = keyHeads * headSize;
    const end = this.first + this.count;
    if (to > end)
      throw new LongctxError(
        "argument",
        `Token ${to - 1} is not in the cache, which ends with ${end - 1}; ask for less.`,
      );
    const out = new Float32Array((to - from) * width);
    const old = Array.from({ length: Math.max(0, Math.min(to, this.first) - from) }, (_, i) => from + i);
    const back = rotation && !rotation.identity ? angles(UNROTATED, old, old.length, rotation) : null;
    const { slots } = this.#state.layers[this.layer];
    for (const token of old) {
      if (!slots.holds(token)) {
        if (!far)
          throw new LongctxError(
            "capacity",
            `Token ${token} was evicted from the cache; ask for tokens it still holds.`,
          );
        far.read(token, 1, out.subarray((token - from) * width, (token - from + 1) * width));
        continue;
      }
      const slot = slots.slotOf(token);
      const unturned = back && anglesFrom(back, token - from, 1);
      for (let head = 0; head < keyHeads; head++) {
        const row = out.subarray(
          ((token - from) * keyHeads + head) * headSize,
          ((token - from) * keyHeads + head + 1) * headSize,
        );
        turnRows(buffer!.read(head, slot, slot + 1), row, headSize, unturned);
      }
    }
    const begin = Math.max(from, this.first);
    if (begin < to)
      out.set(this.#columns(firstHead, keyHeads, begin - this.first, to - this.first), (begin - from) * width);
    return out;
  }
}
