import { AngleRows } from "../../positions/angle-rows.ts";
import type { Rotation } from "../../positions/rotation.ts";
import type { Block, SharedMemory } from "../wasm/shared-memory.ts";

/**
 * The angles of a chunk's queries under rotations, as kernels/src/turned.ts reads them: a row a query, of cos [4] and sin
 * [4] of four pairs after another. Layers of a chunk share them.
 */
export class ListAngles {
  readonly #memory: SharedMemory;
  /** Bytes of a row. */
  readonly rowBytes: number;
  readonly #floats: number;
  readonly #made = new Map<string, Block>();
  #first = -1;
  #count = 0;

  /** `pairs` is d/2. */
  constructor(memory: SharedMemory, pairs: number) {
    this.#memory = memory;
    this.#floats = 8 * Math.ceil(pairs / 4);
    this.rowBytes = 4 * this.#floats;
  }

  /** Begins with the queries [first, first + count); angles of others are forgotten. */
  begin(first: number, count: number): void {
    if (first === this.#first && count === this.#count) return;
    for (const block of this.#made.values()) this.#memory.release(block);
    this.#made.clear();
    [this.#first, this.#count] = [first, count];
  }

  /** Returns the address of the first query's row; 0 where the rotation changes nothing. */
  of({ id, identity, table, rule }: Rotation): number {
    if (identity) return 0;
    const known = this.#made.get(id);
    if (known) return known.address;
    const block = this.#memory.allocate(this.rowBytes * this.#count);
    const data = this.#memory.floats(block, this.#floats * this.#count);
    const rows = new AngleRows(table.inverse);
    for (let row = 0; row < this.#count; row++) {
      const { cos, sin } = rows.at(rule.at(this.#first + row));
      for (let i = 0; i < cos.length; i++) {
        const at = row * this.#floats + 8 * (i >> 2) + (i & 3);
        data[at] = cos[i] * table.amplitude;
        data[at + 4] = sin[i] * table.amplitude;
      }
    }
    this.#made.set(id, block);
    return block.address;
  }
}
