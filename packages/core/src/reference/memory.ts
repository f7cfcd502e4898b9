import type { MemoryBranch } from "../method/plan.ts";
import type { HeadShape } from "./dense-attention.ts";

/** The compressive memory of one layer, M [K, D, D] and z [K, D], in float64. */
export class LayerMemory {
  readonly shape: HeadShape;
  matrix: Float64Array;
  sums: Float64Array;
  /** Segments of the text that were written, and the tokens of each. */
  written = 0;
  segment = 0;

  constructor(shape: HeadShape) {
    const { keyHeads, headSize } = shape;
    this.shape = shape;
    this.matrix = new Float64Array(keyHeads * headSize * headSize);
    this.sums = new Float64Array(keyHeads * headSize);
  }

  fork(): LayerMemory {
    const copy = new LayerMemory(this.shape);
    copy.matrix = this.matrix.slice();
    copy.sums = this.sums.slice();
    copy.written = this.written;
    copy.segment = this.segment;
    return copy;
  }

  /**
   * Mixes what the chunk's queries [T, H, D], not rotated, read of the memory into `attended` [T, H, D], in place, and
   * writes the segments of text that are due on the way; `rows` gives keys and values [n, K, D] of tokens [from, to).
   */
  pass(
    branch: MemoryBranch,
    gates: ArrayLike<number>,
    chunk: { readonly first: number; readonly queries: Float64Array; readonly attended: Float64Array },
    rows: (from: number, to: number) => { readonly keys: Float64Array; readonly values: Float64Array },
  ): void {
    const { queryHeads, keyHeads, headSize: D } = this.shape;
    const count = chunk.queries.length / (queryHeads * D);
    const size = branch.segment;
    for (let t = 0; t < count; t++) {
      // A query reads every segment of the text that ends before the query's own segment begins.
      for (; (this.written + 1) * size <= chunk.first + t; this.written++) {
        const { keys, values } = rows(this.written * size, (this.written + 1) * size);
        this.#write(keys, values, branch.update);
        this.segment = size;
      }
      for (let h = 0; h < queryHeads; h++) {
        const at = (t * queryHeads + h) * D;
        const gate = 1 / (1 + Math.exp(-gates[h]));
        const read = this.#read(Math.floor((h * keyHeads) / queryHeads), chunk.queries.subarray(at, at + D));
        for (let i = 0; i < D; i++) chunk.attended[at + i] = gate * read[i] + (1 - gate) * chunk.attended[at + i];
      }
    }
  }

  /** A = σ(x) M / (σ(x) · z) of one key head (eq. 7); zeros where the denominator is 0. */
  #read(head: number, x: Float64Array): Float64Array {
    const { headSize: D } = this.shape;
    const output = new Float64Array(D);
    let denominator = 0;
    for (let i = 0; i < D; i++) {
      const weight = feature(x[i]);
      denominator += weight * this.sums[head * D + i];
      for (let j = 0; j < D; j++) output[j] += weight * this.matrix[(head * D + i) * D + j];
    }
    return denominator === 0 ? output.fill(0) : output.map((sum) => sum / denominator);
  }

  /** M += σ(K)ᵀ V, or with delta M += σ(K)ᵀ (V − σ(K) M / (σ(K) z)); z += Σ σ(K); keys and values [n, K, D] (eq. 8 and 9). */
  #write(keys: Float64Array, values: Float64Array, update: MemoryBranch["update"]): void {
    const { keyHeads, headSize: D } = this.shape;
    const before = update === "delta" ? this.fork() : null; // the whole segment is compared with the memory before it
    for (let row = 0; row < keys.length; row += keyHeads * D) {
      for (let head = 0; head < keyHeads; head++) {
        const at = row + head * D;
        const known = before === null ? null : before.#read(head, keys.subarray(at, at + D));
        for (let i = 0; i < D; i++) {
          const weight = feature(keys[at + i]);
          this.sums[head * D + i] += weight;
          for (let j = 0; j < D; j++)
            this.matrix[(head * D + i) * D + j] += weight * (values[at + j] - (known ? known[j] : 0));
        }
      }
    }
  }
}

/** σ(x) = ELU(x) + 1 as exp(min(x, 0)) + max(x, 0), which keeps its digits where e^x is small. */
function feature(x: number): number {
  return Math.exp(Math.min(x, 0)) + Math.max(x, 0);
}
