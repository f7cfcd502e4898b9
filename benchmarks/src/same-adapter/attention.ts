import * as ort from "onnxruntime-node";
import { makeTable, SlotMap, TEXT_POSITION } from "@longctx/core";
import { Graph } from "../../../packages/core/src/cpu/graph/graph.ts";
import { rotation } from "../../../packages/core/src/positions/rotation.ts";
import { AttentionKernels } from "../../../packages/core/src/webgpu/attention/attention.ts";
import {
  ringShape,
  queryBytes,
  type AttentionShape,
} from "../../../packages/core/src/webgpu/attention/attention-shape.ts";
import { attentionTables } from "../../../packages/core/src/webgpu/attention/lane-table.ts";
import { noisy } from "../../../packages/core/tests/webgpu/weights/stored-weights.ts";
import { floats, onnxruntimeSide, type Contest } from "./contest.ts";

/**
 * Causal attention of a whole chunk, keys and values written to the ring first, as both sides do in a model: ours are
 * the two dispatches of a layer, theirs is the fused `MultiHeadAttention`, or products with a mask and a softmax between
 * them. Nothing is rotated.
 */
export function causalAttention(
  name: string,
  fused: boolean,
  tokens: number,
  heads: number,
  headSize: number,
  wanted: number,
): Contest {
  const size = heads * headSize;
  const [queries, keys, values] = [1, 2, 3].map((seed) => noisy(tokens * size, seed));
  return {
    name,
    wanted,
    times: 1,
    operations: 2 * tokens * (tokens + 1) * size,
    bytes: null,
    async ours(gpu) {
      const shape: AttentionShape = {
        queryHeads: heads,
        keyHeads: heads,
        headSize,
        pairs: headSize / 2,
        storage: "f32",
      };
      const table = makeTable(new Float64Array(headSize / 2), 1);
      const segment = {
        tokens: { from: 0, to: Infinity },
        table,
        queryPosition: TEXT_POSITION,
        keyPosition: TEXT_POSITION,
        band: { from: 0, to: Infinity },
      };
      const kernels = new AttentionKernels(shape, gpu.capabilities);
      const { stride, places, groups } = ringShape(shape, tokens, 1, gpu.capabilities);
      const ring = {
        stride,
        places,
        groups: groups.map(({ firstHead, heads: held, keyBytes, valueBytes }) => ({
          firstHead,
          heads: held,
          keys: gpu.allocate(keyBytes, "cache"),
          values: gpu.allocate(valueBytes, "cache"),
        })),
      };
      const slots = new SlotMap({ capacity: tokens, pinned: tokens });
      slots.append(tokens);
      const tables = attentionTables({
        plan: { segments: [segment] },
        slots,
        first: 0,
        count: tokens,
        headSize,
        pairs: headSize / 2,
        places: new Map([[rotation(table, TEXT_POSITION).id, 0]]),
        ...kernels.cut(tokens),
      });
      const projected = new Float32Array(3 * queries.length);
      for (let t = 0; t < tokens; t++)
        [queries, keys, values].forEach((from, i) =>
          projected.set(from.subarray(t * size, (t + 1) * size), (3 * t + i) * size),
        );
      const attended = gpu.allocate(4 * queries.length, "activations");
      const work = {
        tables,
        uploaded: gpu.upload(tables.bytes, "tables"),
        queries: gpu.allocate(queryBytes(shape, tables.queryRotations, tokens), "activations"),
        ring,
        attended,
        parts: gpu.allocate(kernels.partBytes(tables), "activations"),
      };
      const dispatches = [
        ...kernels.rotateAndStore({ ...work, projected: gpu.upload(projected, "activations") }),
        ...kernels.attend(work),
      ];
      await gpu.prepare(dispatches.map(({ kernel }) => kernel));
      return { run: async () => floats((await gpu.runAndRead(dispatches, [attended]))[0]) };
    },
    async theirs() {
      const graph = new Graph();
      const input = graph.input("input", 3);
      if (fused) {
        const given = [keys, values].map((data) => graph.constant(data, [1, tokens, size]));
        const ints = { num_heads: heads, unidirectional: 1 };
        graph.op("MultiHeadAttention", [input, ...given], { ints }, "output");
      } else {
        const dims = graph.integers(tokens, heads, headSize);
        const byHeads = (value: string, perm: number[]) =>
          graph.op("Transpose", [graph.op("Reshape", [value, dims])], { ints: { perm } });
        const given = [keys, values].map((data) => graph.constant(data, [tokens, size]));
        const transposed = byHeads(given[0], [1, 2, 0]);
        const scale = graph.constant(Float32Array.of(1 / Math.sqrt(headSize)), [1]);
        const scores = graph.op("MatMul", [graph.op("Mul", [byHeads(input, [1, 0, 2]), scale]), transposed]);
        const hidden = new Float32Array(tokens * tokens);
        for (let t = 0; t < tokens; t++) hidden.fill(-1e30, t * tokens + t + 1, (t + 1) * tokens);
        const masked = graph.op("Add", [scores, graph.constant(hidden, [tokens, tokens])]);
        const probabilities = graph.op("Softmax", [masked], { ints: { axis: -1 } });
        const attended = graph.op("MatMul", [probabilities, byHeads(given[1], [1, 0, 2])]);
        graph.op("Transpose", [attended], { ints: { perm: [1, 0, 2] } }, "output");
      }
      graph.output("output");
      return onnxruntimeSide(graph, { input: new ort.Tensor("float32", queries, [1, tokens, size]) });
    },
  };
}
