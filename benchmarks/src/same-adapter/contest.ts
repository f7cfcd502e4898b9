import * as ort from "onnxruntime-node";
import type { Gpu } from "@longctx/core/webgpu";
import type { Graph } from "../../../packages/core/src/cpu/graph/graph.ts";

/** The same work on both sides, some times over in one submission, so that host costs count little. */
export interface Contest {
  readonly name: string;
  /** Floating-point operations of one, and bytes of weights that it reads where that is what takes the time. */
  readonly operations: number;
  readonly bytes: number | null;
  /** What the ratio has to be at least. */
  readonly wanted: number;
  readonly times: number;
  ours(gpu: Gpu): Promise<Side>;
  theirs(): Promise<Side>;
}

export interface Side {
  /** What came out of the last one. */
  run(): Promise<Float32Array>;
  release?(): Promise<void>;
}

/** A session of onnxruntime's WebGPU provider; operators that it has no kernel for would make the contest unfair. */
export async function onnxruntimeSide(graph: Graph, feeds: Record<string, ort.Tensor>): Promise<Side> {
  const { model, weights } = graph.encode();
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["webgpu"],
    externalData: weights.map(({ path, data }) => ({ path, data })),
    logSeverityLevel: 3,
  });
  return {
    run: async () => {
      const { output } = await session.run(feeds);
      return output.data as Float32Array;
    },
    release: () => session.release(),
  };
}

export function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
