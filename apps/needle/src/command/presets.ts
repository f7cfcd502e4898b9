import { fetchModel, findSmolLM2, LongctxError, type HubOptions } from "longctx";
import { downloadLines } from "../run/progress.ts";
import type { RunOptionValues } from "../run/options.ts";

/** What `needle start` measures: a run that shows the field's question within a coffee. */
export const PRESETS: Readonly<Record<string, RunOptionValues>> = {
  tiny: {
    model: "tiny",
    task: "needle",
    lengths: [256, 512, 1024, 2048, 4096],
    trials: 3,
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
    trials: 1,
    methods: ["none", "rerope:window=512", "streaming:sinks=4,window=508"],
    reuse: "prefix",
    out: "runs/start-smollm2",
  },
};

/** @throws LongctxError "argument" for another name, "network" when its model is not here and cannot be fetched */
export async function preset(name: string, options: HubOptions = {}): Promise<RunOptionValues> {
  const found = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (!found)
    throw new LongctxError(
      "argument",
      `There is no preset "${name}"; there is ${Object.keys(PRESETS).join(" and ")}. For another model use \`needle run --model …\`.`,
    );
  if (found.model === "smollm2") await getSmolLM2(options);
  return found;
}

/** Fetches SmolLM2 unless it is on this machine. */
async function getSmolLM2(options: HubOptions): Promise<void> {
  if (findSmolLM2()) return;
  try {
    await fetchModel("smollm2", { onProgress: downloadLines(), ...options });
  } catch (error) {
    if (!(error instanceof LongctxError) || error.code !== "network") throw error;
    const remedy =
      "Where there is a network, `npm run longctx -- fetch smollm2` gets it (98 MB); or set LONGCTX_SMOLLM2 to the path of SmolLM2-135M-Instruct.Q4_1.gguf.";
    throw new LongctxError("network", `SmolLM2 is not on this machine and could not be fetched. ${remedy}`, {
      cause: error,
    });
  }
}
