import { LongctxError, resolveModel } from "longctx";
import type { RunOptionValues } from "./options.ts";

/** What `needle start` measures: a run that shows the field's question within a coffee. */
export const PRESETS: Readonly<Record<string, RunOptionValues>> = {
  tiny: {
    model: "tiny",
    task: "needle",
    lengths: [256, 512, 1024, 2048, 4096],
    trials: 4,
    methods: [
      "none",
      "interpolation:factor=auto",
      "ntk:factor=auto",
      "dynamic-ntk:factor=auto",
      "yarn:factor=auto",
      "rerope:window=128",
      "rerope:window=128,logn=1",
      "streaming:sinks=4,window=252",
    ],
    out: "runs/start-tiny",
  },
  smollm2: {
    model: "smollm2",
    task: "passkey",
    haystack: "filler",
    lengths: [512, 1024, 2048],
    trials: 2,
    methods: ["none", "rerope:window=512", "streaming:sinks=4,window=508"],
    out: "runs/start-smollm2",
  },
};

/** @throws LongctxError "argument" for another name, "file" when its model is not on this machine */
export async function preset(name: string): Promise<RunOptionValues> {
  const found = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (!found)
    throw new LongctxError(
      "argument",
      `There is no preset "${name}"; there is ${Object.keys(PRESETS).join(" and ")}. For another model use \`needle run --model …\`.`,
    );
  if (found.model === "smollm2") await expectSmolLM2();
  return found;
}

async function expectSmolLM2(): Promise<void> {
  try {
    await resolveModel("smollm2");
  } catch (error) {
    // A variable that names a wrong file has a message of its own.
    if (!(error instanceof LongctxError) || process.env["LONGCTX_SMOLLM2"]) throw error;
    const remedy =
      "Fetch it once (98 MB) with `npm run longctx -- fetch smollm2`, or set LONGCTX_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf.";
    throw new LongctxError("file", `SmolLM2 is not on this machine. ${remedy}`, { cause: error });
  }
}
