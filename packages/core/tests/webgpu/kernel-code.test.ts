import { describe, expect, it } from "vitest";
import { askingQueryKernel } from "../../src/webgpu/choice/asking-query.ts";
import { attentionMassKernel, rowTotalsKernel } from "../../src/webgpu/choice/attention-mass.ts";
import { blockBoundsKernel } from "../../src/webgpu/choice/block-bounds.ts";
import { choiceScoresKernel } from "../../src/webgpu/choice/choice-scores.ts";
import { chooseRowsKernel } from "../../src/webgpu/choice/choose-rows.ts";
import { salientMeansKernel } from "../../src/webgpu/choice/salient-means.ts";
import { sparseKernel } from "../../src/webgpu/sparse/attention-sparse.ts";
import { gateBranchKernel } from "../../src/webgpu/sparse/gate-branch.ts";
import { blockMeansKernel } from "../../src/webgpu/choice/block-means.ts";
import { blockScoresKernel, chooseBlocksKernel } from "../../src/webgpu/choice/choose-blocks.ts";
import type { GpuSlice } from "../../src/webgpu/device/kernel.ts";
import { activationKernel } from "../../src/webgpu/products/activation.ts";
import { argmax } from "../../src/webgpu/sampling/argmax.ts";
import { broadcastTilesKernel } from "../../src/webgpu/attention/attention-broadcast.ts";
import { reduceKernel } from "../../src/webgpu/attention/attention-reduce.ts";
import { splitKernel } from "../../src/webgpu/attention/attention-split.ts";
import { tiledKernel } from "../../src/webgpu/attention/attention-tiled.ts";
import { memoryReadKernel, memoryResidualKernel, memoryWriteKernel } from "../../src/webgpu/memory/memory-kernels.ts";
import { embeddingKernel } from "../../src/webgpu/products/embedding.ts";
import { expertProductKernel } from "../../src/webgpu/products/expert-product.ts";
import { routeKernel } from "../../src/webgpu/products/experts.ts";
import { normKernel } from "../../src/webgpu/products/norm.ts";
import { rotateAndStoreKernel } from "../../src/webgpu/attention/rotate-and-store.ts";
import { sampleKernel } from "../../src/webgpu/sampling/sample.ts";
import { turnKeysKernel } from "../../src/webgpu/attention/turn-keys.ts";
import { shapeOf } from "./attention/attention-plans.ts";
import { KEY } from "./products/product-scene.ts";

/** One of each kind, small, to be read when it changes; `product-code.test.ts` has the products. */
const shape = shapeOf({ queryHeads: 2, keyHeads: 1, headSize: 8, pairs: 4 });
const slice: GpuSlice = { buffer: {} as GPUBuffer, offset: 0, size: 0 };
const [spans, whole] = argmax({ logits: slice, size: 8, scratch: slice, result: slice });
const KERNELS = {
  "tiled attention": tiledKernel({ shape }, { rows: 64, keys: 16 }),
  "tiled attention over ranges of keys, neighbours sharing a query": tiledKernel(
    { shape: shapeOf({ headSize: 24 }) },
    { rows: 32, keys: 4, teamSize: 4 },
    "parts",
  ),
  "split attention": splitKernel({ shape }, { threads: 64, heads: 2, longest: 256, maximum: "subgroups" }),
  "the reduction of split attention": reduceKernel({ threads: 64, maximum: "eights" }),
  "rotate and store": rotateAndStoreKernel({ storage: "f16", normEpsilon: 1e-6 }),
  "an RMS norm added to the stream": normKernel({ kind: "rms", residual: false, add: true }),
  "the embedding of Q8_0": embeddingKernel("Q8_0"),
  "sampling with a penalty": sampleKernel({ penalty: true }, { size: 128, loads: 4 }),
  "routing to 2 of 8 experts": routeKernel({ count: 8, perToken: 2, renormalise: true }),
  "tiled attention by broadcast": broadcastTilesKernel({ shape }, { subgroupSize: 4, queries: 1, keys: 1 }),
  "turning keys": turnKeysKernel(shape),
  "an activation": activationKernel("gelu"),
  "gates of experts": expertProductKernel(
    { ...KEY, type: "F16", norm: true, activation: "silu" },
    { teamSize: 8, teams: 4, rows: 2, tokens: 1, unit: "quarter" },
  ),
  "mean keys of blocks": blockMeansKernel("f16"),
  "what a choice asks with": askingQueryKernel(),
  "scores of blocks": blockScoresKernel(),
  "the best blocks": chooseBlocksKernel(),
  "bounds of blocks": blockBoundsKernel("f16"),
  "means of salient keys": salientMeansKernel(shape),
  "scores of tokens by cosines": choiceScoresKernel(shape, "cosines", 1),
  "scores of blocks by bounds, for some rows": choiceScoresKernel(shape, "bounds", 2),
  "the best of each row and list": chooseRowsKernel(),
  "totals of rows": rowTotalsKernel(),
  "attention masses": attentionMassKernel(shape),
  "sparse attention, with turns of four pairs": sparseKernel(shape, "product"),
  "sparse attention by cosines": sparseKernel(shape, "cosine"),
  "a branch behind a gate": gateBranchKernel(),
  "tiled attention by broadcast, for parts of rows": broadcastTilesKernel(
    { shape },
    { subgroupSize: 4, queries: 1, keys: 1 },
    "parts",
  ),
  "reading a compressive memory": memoryReadKernel({ headSize: 8 }),
  "what a segment adds to a memory": memoryResidualKernel({ headSize: 8, storage: "f16" }),
  "writing a segment to a memory": memoryWriteKernel("linear", "f16"),
  "writing what a segment adds": memoryWriteKernel("delta", "f32"),
  "the largest logit of a span": spans.kernel,
  "the largest logit of all spans": whole.kernel,
} as const;

describe("the code of a kernel", () => {
  it.each(Object.entries(KERNELS))("reads well: %s", (_, { code }) => {
    expect(code).toMatchSnapshot();
  });

  it.each(Object.entries(KERNELS))("declares what it is given, and enables what it needs: %s", (_, kernel) => {
    const { code, bindings, features } = kernel;
    const declared = [...code.matchAll(/@binding\((\d+)\) var<storage, (read|read_write)>/g)];
    expect(declared.map(([, number]) => Number(number)).sort((a, b) => a - b)).toEqual([...bindings.keys()]);
    for (const [, number, access] of declared)
      expect(bindings[Number(number)]).toBe(access === "read" ? "read" : "write");
    expect(code).toMatch(new RegExp(`@binding\\(${bindings.length}\\) var<uniform> uniforms: Uniforms;`));
    expect(code.includes("enable subgroups;")).toBe((features as readonly string[]).includes("subgroups"));
    // Halves are stored as bits and computed with as floats: only tiles of products have another way.
    expect(code).not.toContain("enable f16;");
  });
});
