import { supportsColor, type ColorSupportLevel } from "chalk";
import { Command } from "commander";
import {
  describeDevice,
  DEVICES,
  LongctxError,
  PRECISIONS,
  type Device,
  type DeviceChoice,
  type Precision,
} from "longctx";
import { HAYSTACKS, type HaystackName } from "@longctx/tasks";
import {
  DEFAULTS,
  parseDepths,
  parseLengths,
  parseWhole,
  QUESTIONS,
  REUSES,
  runOptions,
  TASKS,
  type RunOptions,
  type RunOptionValues,
  type TaskName,
} from "../run/options.ts";
import { preset } from "./presets.ts";
import { printed, report } from "../report/report.ts";
import { run } from "../run/run.ts";

/** The `needle` command line. Errors are thrown; `main.ts` turns them into a line and an exit code. */
export function needleCommand(): Command {
  const program = new Command("needle")
    .description(
      "Needle in a haystack: how far past its trained window a model still finds what it has read, method by method.",
    )
    .option("--debug", "show the stack of an error");
  program
    .command("run", { isDefault: true })
    .description("Measure a grid of lengths and depths. The same command again goes on where the run stopped.")
    .option(
      "--model <model>",
      `tiny (embedded), smollm2, a .gguf file, a model folder, or hf:org/name (default ${DEFAULTS.model})`,
    )
    .option("--task <task>", `${TASKS.join(", ")} (default ${DEFAULTS.task})`)
    .option("--lengths <list>", "prompt lengths in tokens: 512,1k,2k", parseLengths)
    .option("--depths <list>", "needle depths in %: 0,25,50,75,100", parseDepths)
    .option("--trials <n>", "prompts a cell", parseWhole("--trials", 1))
    .option(
      "--methods <spec...>",
      `methods, as "none" "yarn:factor=4" (factor=auto is length / trained window), and readers, as "reader=scroll" "reader=scroll:chunk=512,budget=128". "METHOD then CONTROL" reads the text under METHOD and goes on from the question under CONTROL: "blocks:local=1024 then oracle-block"`,
    )
    .option("--baseline <spec>", "the method the others are compared with (default none)")
    .option("--needles <n>", "needles in a prompt of the needle task", parseWhole("--needles", 1))
    .option("--haystack <name>", `text around the passkey: ${HAYSTACKS.join(" or ")}`)
    .option("--paraphrase", "ask in other words than those of the needle (sentence task)")
    .option(
      "--question <how>",
      `${QUESTIONS.join(", ")}: read with the end of the text, in one piece behind it, or token by token (default ${DEFAULTS.question})`,
    )
    .option(
      "--trained-window <tokens>",
      "T of the methods, in place of what the checkpoint says",
      parseWhole("--trained-window", 1),
    )
    .option("--reuse <what>", `read what prompts begin with in common once: ${REUSES.join(" or ")} (default none)`)
    .option("--trace", "note what each layer fetches for the question and the answer; reading takes longer")
    .option("--seed <n>", "prompts are made from it", parseWhole("--seed", 0))
    .option("--device <device>", DEVICES.join(", "))
    .option("--precision <precision>", PRECISIONS.join(", "))
    .option("--out <folder>", "where the results go (default runs/<task>-<model>)")
    .option("--overwrite", "discard what an earlier run left there")
    .action((given: Flags) => measured(runOptions(valuesOf(given))));
  program
    .command("start")
    .description("A first look: the embedded model over all methods, in about two minutes.")
    .option("--model <model>", "tiny or smollm2", "tiny")
    .option("--trials <n>", "prompts a cell", parseWhole("--trials", 1))
    .option("--device <device>", DEVICES.join(", "))
    .option("--out <folder>", "where the results go")
    .option("--overwrite", "discard what an earlier run left there")
    .action(async ({ model = "tiny", ...given }: Flags) =>
      measured(runOptions({ ...(await preset(model)), ...valuesOf(given) })),
    );
  program
    .command("report <folder>")
    .description("Summarise a run's samples anew: tables, heatmap.svg, summary.json, cells.csv.")
    .action(async (folder: string) => show(await report(folder), folder));
  return program;
}

interface Flags extends Omit<RunOptionValues, "task" | "haystack" | "device" | "precision" | "reuse" | "question"> {
  // Names are checked by runOptions, which says what there is.
  readonly task?: string;
  readonly haystack?: string;
  readonly device?: string;
  readonly precision?: string;
  readonly reuse?: string;
  readonly question?: string;
}

function valuesOf(given: Flags): RunOptionValues {
  const { task, haystack, device, precision, reuse, question, ...rest } = given;
  return {
    ...rest,
    ...(task !== undefined && { task: task as TaskName }),
    ...(haystack !== undefined && { haystack: haystack as HaystackName }),
    ...(device !== undefined && { device: device as Device }),
    ...(precision !== undefined && { precision: precision as Precision }),
    ...(question !== undefined && { question: question as RunOptions["question"] }),
    ...(reuse !== undefined && { reuse: reuse as RunOptions["reuse"] }),
  };
}

async function measured(options: RunOptions): Promise<void> {
  const controller = new AbortController();
  const stop = (): void => {
    // A second Ctrl-C ends the process at once; the samples are on disk all the same.
    process.once("SIGINT", () => process.exit(130));
    controller.abort();
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  // Who asks for the cpu or the reference by name knows what computes.
  const onDevice = (choice: DeviceChoice): void => {
    if (options.device === "auto" || options.device === "webgpu") process.stderr.write(`${describeDevice(choice)}\n`);
  };
  try {
    const summary = await run(options, controller.signal, onDevice);
    await show(summary, options.out);
    if (summary.errors.length > 0) process.exitCode = 3;
  } catch (error) {
    if (!(error instanceof LongctxError) || error.code !== "aborted") throw error;
    process.stderr.write(`Stopped. What was measured is in ${options.out}; the same command goes on from there.\n`);
    process.exitCode = 130;
  } finally {
    process.removeListener("SIGINT", stop);
    process.removeListener("SIGTERM", stop);
  }
}

async function show(summary: Parameters<typeof printed>[0], out: string): Promise<void> {
  const level: ColorSupportLevel = supportsColor ? supportsColor.level : 0;
  process.stdout.write(await printed(summary, out, { columns: process.stdout.columns ?? 120, level }));
}
