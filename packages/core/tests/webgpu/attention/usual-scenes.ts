import { expect } from "vitest";
import type { Gpu } from "../../../src/webgpu/device/gpu.ts";
import { causal, shapeOf, tableOf } from "./attention-plans.ts";
import { difference, play, type Outcome, type Scene } from "./attention-scene.ts";

/** Scenes of causal attention over 40 tokens but for what a test changes, and those played and found to be as defined. */
export function usualScenes(gpu: Gpu, own: Pick<Scene, "path" | "capabilities">) {
  const scene = (changes: Partial<Scene>): Scene => ({
    shape: shapeOf(),
    plan: () => ({ segments: [causal(tableOf(3))] }),
    layout: { capacity: 128, pinned: 128 },
    chunks: [40],
    ...own,
    ...changes,
    capabilities: { ...own.capabilities, ...changes.capabilities },
  });
  const expectAsDefined = async (changes: Partial<Scene>, tolerance = 3e-5): Promise<Outcome> => {
    const outcome = await play(gpu, scene(changes));
    expect(difference(outcome.attended, outcome.expected)).toBeLessThan(tolerance);
    return outcome;
  };
  return { scene, expectAsDefined };
}
