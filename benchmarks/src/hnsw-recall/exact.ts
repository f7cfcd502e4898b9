import * as ort from "onnxruntime-node";
import { Graph } from "../../../packages/core/src/cpu/graph/graph.ts";
import { toHalves } from "../../../packages/core/src/cpu/wasm/halves.ts";
import { kernels } from "../../../packages/core/src/cpu/wasm/kernels.ts";
import { SharedMemory } from "../../../packages/core/src/cpu/wasm/shared-memory.ts";

/** Compares queries [G, D] of the heads that share a key head with all keys [n, D], and returns the best `count` rows of each. */
export interface ExactSearch {
  readonly name: string;
  search(queries: Float32Array, count: number): Int32Array[] | Promise<Int32Array[]>;
  release(): Promise<void>;
}

/** Keys compared at once, whose scores stay in the cache. */
const BLOCK = 4096;

/** A loop in JavaScript over keys where they lie, for all queries at once. */
export function inJavaScript(keys: Float32Array, dimension: number): ExactSearch {
  const count = keys.length / dimension;
  const scores = new Float32Array(BLOCK);
  return {
    name: "javascript",
    search(queries, most) {
      return Array.from({ length: queries.length / dimension }, (_, head) => {
        const query = queries.subarray(head * dimension, (head + 1) * dimension);
        const best = new Best(most);
        for (let first = 0; first < count; first += BLOCK) {
          const rows = Math.min(BLOCK, count - first);
          for (let row = 0; row < rows; row++) {
            let [a, b, c, d] = [0, 0, 0, 0];
            for (let i = 0, at = (first + row) * dimension; i < dimension; i += 4, at += 4) {
              a += query[i] * keys[at];
              b += query[i + 1] * keys[at + 1];
              c += query[i + 2] * keys[at + 2];
              d += query[i + 3] * keys[at + 3];
            }
            scores[row] = a + b + (c + d);
          }
          best.add(scores, 0, rows, first);
        }
        return best.rows();
      });
    },
    release: () => Promise.resolve(),
  };
}

/** The kernels of the cpu backend, over keys in their memory, in float32 or half precision. */
export function inKernels(keys: Float32Array, dimension: number, precision: "float32" | "float16"): ExactSearch {
  const count = keys.length / dimension;
  const bytes = precision === "float32" ? 4 : 2;
  const memory = new SharedMemory(512);
  const { address } = memory.allocate(keys.length * bytes);
  if (precision === "float32") memory.floats({ address }, keys.length).set(keys);
  else toHalves(keys, new Uint16Array(memory.memory.buffer, address, keys.length));
  const functions = kernels(memory.memory);
  const asking = memory.floats(memory.allocate(4 * 16 * dimension), 16 * dimension);
  const scores = memory.floats(memory.allocate(4 * 16 * BLOCK), 16 * BLOCK);
  const score = precision === "float32" ? functions.score : functions.scoreHalves;
  return {
    name: precision === "float32" ? "kernels" : "kernels, 16 bits",
    search(queries, most) {
      const heads = queries.length / dimension;
      asking.set(queries);
      if (precision === "float16") for (let i = 0; i < queries.length; i++) asking[i] *= 2 ** 112;
      const best = Array.from({ length: heads }, () => new Best(most));
      for (let first = 0; first < count; first += BLOCK) {
        const rows = Math.min(BLOCK, count - first);
        const at = address + first * dimension * bytes;
        score(asking.byteOffset, at, scores.byteOffset, heads, rows, BLOCK, dimension, 1);
        best.forEach((one, head) => one.add(scores, head * BLOCK, rows, first));
      }
      return best.map((one) => one.rows());
    },
    release: () => Promise.resolve(),
  };
}

/** onnxruntime on one thread: a product and TopK, over keys where they lie. */
export async function inOnnxruntime(keys: Float32Array, dimension: number, most: number): Promise<ExactSearch> {
  const graph = new Graph();
  const product = graph.op("FusedMatMul", [graph.input("queries", 2), graph.input("keys", 2)], {
    ints: { transB: 1 },
  });
  graph.ops("TopK", [product, graph.integers(most)], ["values", "rows"], { ints: { axis: 1, largest: 1, sorted: 1 } });
  graph.output("rows", "int64");
  const session = await ort.InferenceSession.create(graph.encode().model, {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const tensor = new ort.Tensor("float32", keys, [keys.length / dimension, dimension]);
  return {
    name: "onnxruntime",
    async search(queries, count) {
      const heads = queries.length / dimension;
      const { rows } = await session.run({
        queries: new ort.Tensor("float32", queries, [heads, dimension]),
        keys: tensor,
      });
      const all = rows.data as BigInt64Array;
      return Array.from({ length: heads }, (_, head) =>
        Int32Array.from(all.subarray(head * most, head * most + count), Number),
      );
    },
    release: () => session.release(),
  };
}

/** The best scores so far and their rows, the best first; ties to the smaller row. */
class Best {
  readonly #most: number;
  readonly #scores: number[] = [];
  readonly #rows: number[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  add(scores: Float32Array, from: number, count: number, firstRow: number): void {
    let worst = this.#rows.length < this.#most ? -Infinity : this.#scores[this.#most - 1];
    for (let i = 0; i < count; i++) {
      const score = scores[from + i];
      if (!(score > worst)) continue;
      let place = this.#rows.length;
      if (place === this.#most) place--;
      for (; place > 0 && score > this.#scores[place - 1]; place--) {
        this.#scores[place] = this.#scores[place - 1];
        this.#rows[place] = this.#rows[place - 1];
      }
      this.#scores[place] = score;
      this.#rows[place] = firstRow + i;
      if (this.#rows.length === this.#most) worst = this.#scores[this.#most - 1];
    }
  }

  rows(): Int32Array {
    return Int32Array.from(this.#rows);
  }
}
