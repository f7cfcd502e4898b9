import type { ModelConfig } from "../../model/config.ts";
import type { LayerState } from "../state/layer-state.ts";
import { SharedScratch } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";
import { STRIDE } from "./part-layout.ts";
import type { SharedCache } from "./shared-cache.ts";
import { headLists, TokenLists } from "./token-lists.ts";
import type { TokenBranch, TokenPlan } from "./token-plan.ts";

/** Numbers of `Lists` in kernels/src/lists.ts, four bytes each. */
const LISTS_NUMBERS = 7;

/** The second softmax of one token, over lists of its heads. */
export class BranchAttention {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #lists: TokenLists;
  readonly #scratch: SharedScratch;

  constructor(config: ModelConfig, dense: Dense, cache: SharedCache) {
    this.#config = config;
    this.#dense = dense;
    this.#lists = new TokenLists(config, dense, cache);
    this.#scratch = new SharedScratch(dense.memory);
  }

  /**
   * Returns the output [H, D], zeros for heads that see nothing; valid until the next call. `queries` is the address of the
   * token's queries [rotations, H, D], turned and with the temperature, which cosines do not notice.
   */
  attend(
    { token, slots }: TokenPlan,
    { branch, lists }: TokenBranch,
    layer: number,
    state: LayerState,
    queries: number,
  ): Float32Array {
    const { queryHeads, headSize, rope } = this.#config;
    const { functions, memory } = this.#dense;
    const seen = headLists(lists, token, queryHeads);
    const stride = Math.ceil((seen.longest + 4) / STRIDE) * STRIDE;
    const base = this.#scratch.take(4 * queryHeads * (headSize + 2 + stride + headSize) + 4 * LISTS_NUMBERS);
    const sums = base + 4 * queryHeads * headSize;
    const scratch = sums + 8 * queryHeads;
    const scales = branch.scales?.[layer];
    const [unit] = this.#lists.place(
      seen,
      state,
      slots!,
      {
        query: (rotation, head) => queries + 4 * (rotation * queryHeads + head) * headSize,
        output: (head) => base + 4 * head * headSize,
        sum: (head) => sums + 4 * head,
        maximum: (head) => sums + 4 * (queryHeads + head),
      },
      (head) => (scales ? scales[head] : 1 / Math.sqrt(headSize)),
      scales !== undefined,
    );
    const job = scratch + 4 * queryHeads * (stride + headSize);
    const numbers = new Int32Array(memory.memory.buffer, job, LISTS_NUMBERS);
    numbers.set([unit, queryHeads, 1, scratch, stride, headSize, rope.rotarySize / 2]);
    functions.attendLists(job, queryHeads);
    return memory.floats({ address: base }, queryHeads * headSize);
  }
}
