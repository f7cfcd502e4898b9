import type { Command } from "commander";
import { LongctxError } from "longctx";
import { checkOutput, readIds, writeAtomically } from "../files.ts";
import type { Io } from "../io.ts";
import { addReadingOptions, numberOption, type ReadingOptions } from "../options.ts";
import { Progress } from "../progress.ts";
import { checkIds, methodOf, openModel } from "../reading.ts";

interface LogitsOptions extends ReadingOptions {
  readonly ids: string;
  readonly out: string;
  readonly last?: number;
}

export function addLogits(program: Command, io: Io): void {
  const command = program
    .command("logits")
    .description("the logits of given token ids, as JSON")
    .argument("<model>")
    .requiredOption("--ids <file>", "a JSON array of token ids")
    .requiredOption("--out <file>", "{ids, logits}: one row of logits for each token")
    .addOption(numberOption("--last <rows>", "only the last rows; all unless given", { min: 1, integer: true }));
  addReadingOptions(command).action((reference: string, options: LogitsOptions) => writeLogits(reference, options, io));
}

async function writeLogits(reference: string, options: LogitsOptions, io: Io): Promise<void> {
  methodOf(options);
  const ids = await readIds(options.ids);
  await checkOutput(options.out);
  const { model, method } = await openModel(reference, options, io, (checkpoint) => checkIds(ids, checkpoint));
  try {
    const session = model.session({ method, chunk: options.chunk, capacity: ids.length });
    const progress = new Progress(io, "Reading");
    const reading = session.forward(ids, {
      logitRows: options.last ?? ids.length,
      signal: io.signal,
      onProgress: (done, total) => progress.update(done, total),
    });
    await writeAtomically(options.out, async (append) => {
      await append(`{"ids": ${JSON.stringify(ids)}, "logits": [`);
      let before = "\n";
      for await (const { rows, logits } of reading) {
        const { vocabSize } = model.config;
        for (let row = 0; row < rows; row++) {
          await append(`${before}${rowText(logits.subarray(row * vocabSize, (row + 1) * vocabSize))}`);
          before = ",\n";
        }
      }
      await append("\n]}\n");
    }).finally(() => progress.clear());
  } finally {
    await model.dispose();
  }
}

/** Nine digits are enough to get every float32 back. */
function rowText(row: Float32Array): string {
  const wrong = row.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0)
    throw new LongctxError(
      "device",
      `The logit of token ${wrong} is ${row[wrong]}, which JSON cannot hold; the weights or a method's parameters make the model overflow.`,
    );
  return `[${Array.from(row, (value) => Number(value.toPrecision(9))).join(",")}]`;
}
