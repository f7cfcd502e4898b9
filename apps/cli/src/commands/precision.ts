import { Option, type Command } from "commander";
import {
  compareTraces,
  LongctxError,
  PRECISIONS,
  traceOf,
  type Checkpoint,
  type Deviation,
  type Precision,
  type TraceDeviation,
} from "longctx";
import { readIds, readText } from "../files.ts";
import { columns, markdownTable } from "../format.ts";
import type { Io } from "../io.ts";
import { addModelOptions, parsePrecision, tokensOption, type ReadingOptions } from "../options.ts";
import { Progress } from "../progress.ts";
import { checkIds, methodOf, openModel, tokenizerOf } from "../reading.ts";

interface PrecisionOptions extends Omit<ReadingOptions, "precision"> {
  readonly precision: readonly Precision[];
  readonly ids?: string;
  readonly length: number;
  readonly json?: true;
  readonly markdown?: true;
}

export function addPrecision(program: Command, io: Io): void {
  const command = program
    .command("precision")
    .description("how far a device is from the float64 reference, layer by layer")
    .argument("<model>")
    .argument("[file]", "a text in UTF-8")
    .option("--ids <file>", "a JSON array of token ids in place of a text")
    .addOption(tokensOption("--length <tokens>", "read only the first tokens").default(64))
    .addOption(
      new Option("--precision <list>", "precisions to compare")
        .default(PRECISIONS, PRECISIONS.join(","))
        .argParser((list: string) => list.split(",").map((name) => parsePrecision(name.trim()))),
    )
    .option("--json")
    .option("--markdown", "the table in Markdown");
  addModelOptions(command).action((reference: string, file: string | undefined, options: PrecisionOptions) =>
    comparePrecision(reference, file, options, io),
  );
}

async function comparePrecision(
  reference: string,
  file: string | undefined,
  options: PrecisionOptions,
  io: Io,
): Promise<void> {
  methodOf(options);
  if ((file === undefined) === (options.ids === undefined))
    throw new LongctxError("argument", "precision reads a text or --ids; give one of the two.");
  const given = options.ids === undefined ? await readText(file!) : await readIds(options.ids);
  const idsOf = (checkpoint: Checkpoint): number[] => {
    const ids = typeof given === "string" ? tokenizerOf(checkpoint).encode(given) : given;
    checkIds(ids, checkpoint);
    if (ids.length === 0) throw new LongctxError("argument", "The text has no tokens; write something.");
    return ids.slice(0, options.length);
  };
  const trace = async (device: ReadingOptions["device"], precision: Precision) => {
    const { model, method, prepared } = await openModel(reference, { ...options, device, precision }, io, idsOf);
    const progress = new Progress(io, `Reading on ${model.backend.device}, ${precision}:`);
    try {
      const { device: computes } = model.backend;
      const onProgress = (done: number, total: number) => progress.update(done, total);
      const reading = { method, chunk: options.chunk, signal: io.signal, onProgress };
      return { computes, trace: await traceOf(model, prepared, reading) };
    } finally {
      progress.clear();
      await model.dispose();
    }
  };
  const expected = await trace("reference", "exact");
  const results: (TraceDeviation & { readonly device: string; readonly precision: Precision })[] = [];
  for (const precision of options.precision) {
    const { computes: device, trace: computed } = await trace(options.device, precision);
    results.push({ device, precision, ...compareTraces(computed, expected.trace) });
  }
  if (options.json) io.out(`${JSON.stringify({ model: reference, results }, null, 2)}\n`);
  else io.out((options.markdown ? markdownTable : columns)(rowsOf(results)));
}

/** The layers below one another, each precision's largest and RMS difference side by side. */
function rowsOf(
  results: readonly (TraceDeviation & { readonly device: string; readonly precision: Precision })[],
): string[][] {
  const cells = ({ largest, rms }: Deviation) => [largest.toExponential(1), rms.toExponential(1)];
  const row = (name: string, of: (result: TraceDeviation) => Deviation) => [
    name,
    ...results.flatMap((r) => cells(of(r))),
  ];
  return [
    ["", ...results.flatMap(({ device, precision }) => [`${device} ${precision}, largest`, "RMS"])],
    ...results[0].hidden.map((_, layer) =>
      row(layer === 0 ? "embedding" : `after layer ${layer - 1}`, ({ hidden }) => hidden[layer]),
    ),
    row("logits", ({ logits }) => logits),
    ["likeliest token equal", ...results.flatMap(({ sameTop, tokens }) => [`${sameTop} of ${tokens}`, ""])],
  ];
}
