import { describe, expect, it } from "vitest";
import { LongctxError, type ModelConfig, type Weights } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { createWebGpu } from "@longctx/core/webgpu";
import { tinyConfig, tinyWeights } from "./tiny-model.ts";

/** A config in which every field there is has a value, so that none is left out below. */
const whole: Required<ModelConfig> = {
  ...tinyConfig(),
  experts: { count: 2, perToken: 1, feedForwardSize: 8, renormalise: true },
  postNorms: true,
  embeddingScale: 2,
  attentionScale: 0.5,
  logitSoftCap: 30,
  attentionSoftCap: 50,
  rope: {
    type: "default",
    base: 100,
    rotarySize: 6,
    factor: 1,
    originalMaxPositions: 32,
    attentionFactor: 1,
    betaFast: 32,
    betaSlow: 1,
    mscale: 1,
    mscaleAllDim: 1,
    truncate: true,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    shortFactors: [1, 1, 1],
    longFactors: [1, 1, 1],
    frequencyDivisors: [1, 1, 1],
  },
};

/** Every field with a value that no backend computes, and one that nobody has heard of. */
function* unknown(): Generator<[field: string, config: ModelConfig]> {
  const value = { of: "the future" };
  for (const name of Object.keys(whole)) yield [name, { ...whole, [name]: value }];
  for (const record of ["norm", "rope", "bias", "experts", "specialTokens"] as const)
    for (const name of Object.keys(whole[record]))
      yield [`${record}.${name}`, { ...whole, [record]: { ...whole[record], [name]: value } }];
  for (const [name, other] of [["position", "alibi"], ["feedForward", "plain"], ["activation", "relu"]] as const) yield [name, { ...whole, [name]: other }]; // prettier-ignore
  yield ["norm.kind", { ...whole, norm: { kind: "layer", epsilon: 1e-5 } } as unknown as ModelConfig];
  yield ["alibiSlopes", { ...whole, alibiSlopes: [1] } as ModelConfig];
  yield ["rope.sections", { ...whole, rope: { ...whole.rope, sections: [1] } } as ModelConfig];
}

const OPEN: Readonly<Record<string, (config: ModelConfig, weights: Weights) => unknown>> = {
  reference: createReference,
  cpu: createCpu,
  webgpu: createWebGpu,
};

describe.each(Object.entries(OPEN))("the device %s", (device, open) => {
  it.each([...unknown()])("refuses an unknown %s by field and value when a model is opened", async (field, config) => {
    // What a device computes of no model at all would be refused first, so such fields are left out.
    const { experts, postNorms, embeddingScale, attentionScale, attentionSoftCap, ...rest } = config;
    const optional = { experts, postNorms, embeddingScale, attentionScale, attentionSoftCap };
    const own = Object.fromEntries(Object.entries(optional).filter(([name]) => field.startsWith(name)));
    const opened = (async () => await open({ ...rest, ...own }, tinyWeights(tinyConfig())))();
    const error = await opened.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as LongctxError).code).toBe("config");
    // A device that computes nothing of a record names the record.
    const named = [field, field.split(".", 1)[0]].map((name) => `The model has ${name}`);
    expect(named.filter((begin) => (error as Error).message.startsWith(begin))).not.toEqual([]);
    expect((error as Error).message).toContain(`the device ${device} does not compute`);
  });
});
