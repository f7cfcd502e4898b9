import { LongctxError } from "longctx";
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

/** @throws LongctxError "argument" */
export function preset(name: string): RunOptionValues {
  const found = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (!found) throw new LongctxError("argument", `There is no preset "${name}"; there is ${Object.keys(PRESETS).join(" and ")}. For another model use \`needle run --model …\`.`);
  return found;
}
