import { describe, expect, it } from "vitest";
import { modelName, parseDepths, parseLengths, parseWhole, runOptions } from "../src/run/options.ts";
import { PRESETS, preset } from "../src/command/presets.ts";

describe("options", () => {
  it("reads lengths and depths", () => {
    expect(parseLengths("512,1k, 1.5K,2k")).toEqual([512, 1024, 1536, 2048]);
    expect(parseDepths("0,12.5,100")).toEqual([0, 12.5, 100]);
  });

  it.each(["", "0", "-1", "1kk", "512,", "0.3k", "1e3"])("refuses the lengths %j", (text) => {
    expect(() => parseLengths(text)).toThrow(/is not a length/);
  });

  it.each(["", "101", "-1", "middle", "0,,50"])("refuses the depths %j", (text) => {
    expect(() => parseDepths(text)).toThrow(/is not a depth/);
  });

  it.each(["", "0", "1.5", "many"])("refuses %j trials", (text) => {
    expect(() => parseWhole("--trials", 1)(text)).toThrow(/--trials is ".*"; give a whole number of at least 1/);
  });

  it("sorts the grid, drops repetitions and takes none as the baseline", () => {
    const options = runOptions({
      lengths: [512, 256, 512],
      depths: [100, 0],
      methods: ["yarn:factor=2", "none", "none"],
    });
    expect(options).toMatchObject({
      lengths: [256, 512],
      depths: [0, 100],
      methods: ["yarn:factor=2", "none"],
      baseline: "none",
      out: "runs/needle-tiny",
    });
    expect(runOptions({ methods: ["yarn:factor=2"] }).baseline).toBe("yarn:factor=2");
  });

  it("names what there is", async () => {
    expect(() => runOptions({ task: "ruler" as "needle" })).toThrow(
      /no task "ruler"; there is needle, passkey or sentence/,
    );
    expect(() => runOptions({ device: "tpu" as "cpu" })).toThrow(
      /no device "tpu"; there is auto, webgpu, cpu or reference/,
    );
    expect(() => runOptions({ methods: ["none"], baseline: "yarn" })).toThrow(/baseline "yarn" is none of the methods/);
    await expect(preset("gpt")).rejects.toThrow(/no preset "gpt"; there is tiny and smollm2/);
  });

  it("has presets that are possible", () => {
    for (const values of Object.values(PRESETS)) expect(() => runOptions(values)).not.toThrow();
  });

  it("calls a model by its file", () => {
    expect(modelName("/models/SmolLM2-135M-Instruct.Q4_1.gguf")).toBe("SmolLM2-135M-Instruct.Q4_1");
    expect(modelName("models/tiny/")).toBe("tiny");
    expect(modelName("hf:org/name")).toBe("name");
  });
});
