import { afterAll, expect, it } from "vitest";
import { Capture } from "@longctx/core";
import { load } from "../../src/index.ts";
import { goldenFolder } from "../definitions/judge.ts";
import { difference, tinyIds } from "../devices.ts";
import { gpu } from "./model.ts";

afterAll(() => gpu?.destroy());

// Qwen3 has norms of query and key, which hooks need on the host.
it.skipIf(gpu === null)("a model on the GPU asks nothing more of its files, not for hooks either", async () => {
  const ids = tinyIds(9);
  const traces = await Promise.all(
    (["webgpu", "reference"] as const).map(async (device) => {
      const model = await load(goldenFolder("qwen3"), { device });
      const capture = new Capture({ layers: [0, 1], attention: true });
      await model.session({ capacity: ids.length }).prefill(ids, { capture });
      await model.dispose();
      return [0, 1].map((layer) => capture.attention(layer)[0].weights);
    }),
  );
  for (const layer of [0, 1]) expect(difference(traces[0][layer], traces[1][layer])).toBeLessThan(1e-4);
});
