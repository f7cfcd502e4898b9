import { Option, type Command } from "commander";
import { LongctxError, tuneAdapter, type Device, type ModelConfig } from "longctx";
import { openReference } from "../downloads.ts";
import { columns, rate } from "../format.ts";
import type { Io } from "../io.ts";
import { numberOption, parseDevice } from "../options.ts";
import { Progress } from "../progress.ts";

interface TuneOptions {
  readonly device: Device;
  readonly model?: string;
  readonly rounds: number;
  readonly chunk: number;
  readonly context: number;
  readonly dry?: true;
  readonly json?: true;
}

export function addTune(program: Command, io: Io): void {
  program
    .command("tune")
    .description("measures plans of the WebGPU kernels on this machine's adapter; later runs follow the fastest")
    .addOption(new Option("--device <name>", "webgpu").default("webgpu").argParser(parseDevice))
    .option("--model <model>", "measure with the sizes of this model, in place of those of a small one")
    .addOption(
      numberOption("--rounds <count>", "times that each plan runs", { min: 1, max: 1000, integer: true }).default(5),
    )
    .addOption(
      numberOption("--chunk <tokens>", "rows of a product with many", { min: 64, max: 8192, integer: true }).default(
        256,
      ),
    )
    .addOption(
      numberOption("--context <tokens>", "what one token looks back at", {
        min: 64,
        max: 2 ** 20,
        integer: true,
      }).default(2048),
    )
    .option("--dry", "keep nothing")
    .option("--json", "{adapter, tuning, results, file}")
    .action((options: TuneOptions) => tune(options, io));
}

async function tune({ device, model, rounds, chunk, context, dry, json }: TuneOptions, io: Io): Promise<void> {
  if (device !== "webgpu")
    throw new LongctxError("device", `--device ${device} has nothing to tune; it is for webgpu.`);
  const sizes = model === undefined ? undefined : await sizesOf(model, io);
  const progress = new Progress(io, "Tuning:");
  let tuned: Awaited<ReturnType<typeof tuneAdapter>>;
  try {
    tuned = await tuneAdapter(sizes, {
      rounds,
      chunk,
      context,
      keep: !dry,
      signal: io.signal,
      onAdapter: (name) => io.err(`Device webgpu: ${name}.\n`),
      onProgress: (done, total, what) => progress.update(done, total, `${what}, ${done + 1} of ${total}`),
    });
  } finally {
    progress.clear();
  }
  const { results, file } = tuned;
  if (json) io.out(`${JSON.stringify(tuned)}\n`);
  else
    io.out(
      columns([
        ["kernel", "ms", "tuned", "plan"],
        ...results.map(({ name, standardTime, bestTime, standard, best }) => [
          name,
          rate(standardTime),
          rate(bestTime),
          best === standard ? "as it was" : best,
        ]),
      ]),
    );
  if (file !== null) io.err(`Kept in ${file}.\n`);
}

async function sizesOf(model: string, io: Io): Promise<ModelConfig> {
  const checkpoint = await openReference(model, io);
  checkpoint.close();
  return checkpoint.config;
}
