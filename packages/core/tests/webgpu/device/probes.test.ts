import { expect, it } from "vitest";
import { workingFeatures } from "../../../src/webgpu/device/capabilities.ts";

it("a device that is lost while it is probed lacks what was probed, and no failure of it goes unheard", async () => {
  const lost = () => Promise.reject(new Error("the device was lost"));
  const device = {
    features: new Set(["subgroups", "timestamp-query"]),
    pushErrorScope: () => undefined,
    popErrorScope: lost,
    createShaderModule: () => ({}),
    // Answers when the scopes have failed long since: who listens to them only then has missed it.
    createComputePipelineAsync: () => new Promise((_, reject) => void setTimeout(() => reject(new Error("lost")), 20)),
  };
  expect(await workingFeatures(device as unknown as GPUDevice)).toEqual(new Set(["timestamp-query"]));
});
