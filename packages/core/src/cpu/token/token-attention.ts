import type { ModelConfig } from "../../model/config.ts";
import { RAW, turnRows } from "../../positions/rotation.ts";
import { gatesOf, mixFound } from "../choice/found.ts";
import type { CpuState } from "../state/cpu-state.ts";
import type { Floats } from "../wasm/kernel-threads.ts";
import { AttentionParts, type LaneKeys } from "./attention-parts.ts";
import type { Dense } from "./dense.ts";
import { addPartMasses } from "./part-masses.ts";
import { SharedCache } from "./shared-cache.ts";
import { BranchAttention } from "./token-branch.ts";
import type { TokenKeys, TokenPlan } from "./token-plan.ts";

/** Attention of one token over the lanes and lists of a plan, in the memory that kernels share. */
export class TokenAttention {
  readonly #config: ModelConfig;
  readonly cache: SharedCache;
  readonly #dense: Dense;
  readonly #parts: AttentionParts;
  readonly #branch: BranchAttention;

  constructor(config: ModelConfig, dense: Dense) {
    this.#config = config;
    this.cache = new SharedCache(config, dense);
    this.#dense = dense;
    this.#parts = new AttentionParts(config, dense, this.cache);
    this.#branch = new BranchAttention(config, dense, this.cache);
  }

  /** Writes the token's keys into every copy, and its values; `projected` is its q, k and v side by side. */
  store(state: CpuState, layer: number, { token, rotations, turns }: TokenKeys, projected: Float32Array): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { slots, copies, values } = state.layers[layer];
    const slot = slots.slotOf(token);
    for (let head = 0; head < keyHeads; head++) {
      const at = (queryHeads + head) * headSize;
      const key = projected.subarray(at, at + headSize);
      rotations.forEach(({ rotation: { id }, keys }, i) => {
        const copy = keys && copies.get(id);
        if (copy) turnRows(key, this.cache.row(copy.buffer, head, slot), headSize, turns[i]);
      });
      const value = at + keyHeads * headSize;
      this.cache.row(values, head, slot).set(projected.subarray(value, value + headSize));
    }
  }

  /**
   * Writes the attention's output into `attended` [H, D]. Where `band` is not 0, the probabilities of tokens at distances
   * below it are added to the layer's attention mass.
   */
  attend(
    state: CpuState,
    layer: number,
    plan: TokenPlan,
    projected: Float32Array,
    attended: Floats,
    band: number,
  ): void {
    if (plan.lanes.length + plan.found.length === 0 && !plan.gated) {
      attended.data.fill(0);
      return;
    }
    const { slots, copies, values, mass } = state.layers[layer];
    const keys = new Map<string, LaneKeys>();
    for (const { keys: id } of plan.found.length > 0 ? [...plan.lanes, ...plan.found] : plan.lanes) {
      if (keys.has(id)) continue;
      const copy = copies.get(id);
      const rows = this.cache.rows(slots, (copy ?? copies.get(RAW)!).buffer, "keys");
      keys.set(id, { rows, raw: !copy });
    }
    const rows = { keys, values: this.cache.rows(slots, values, "values"), stride: values.stride };
    const parts = this.#parts.attend(plan, { ...rows, layer: state.layers[layer] }, projected, attended);
    const { headSize, queryHeads, keyHeads } = this.#config;
    if (band > 0) {
      mass.extend(plan.token + 1);
      const group = queryHeads / keyHeads;
      addPartMasses(this.#dense.memory, parts, { keyHeads, group }, plan.token, mass, band);
    }
    if (plan.gated) {
      const { queries } = parts.layout;
      const found = this.#branch.attend(plan, plan.gated, layer, state.layers[layer], queries);
      const gates = gatesOf(plan.gated.branch.gates[layer]);
      for (let head = 0; head < queryHeads; head++) {
        const own = [head * headSize, (head + 1) * headSize] as const;
        mixFound(attended.data.subarray(...own), found.subarray(...own), gates[head]);
      }
    }
  }
}
