import type { Command } from "commander";
import { compose } from "longctx";
import { openReference } from "../downloads.ts";
import { inspectCheckpoint } from "../inspection.ts";
import { inspectionText } from "../inspection-text.ts";
import type { Io } from "../io.ts";
import { parseTokens, tokensOption } from "../options.ts";
import { methodOf } from "../reading.ts";

interface InspectOptions {
  readonly lengths?: readonly number[];
  readonly method?: string;
  readonly length?: number;
  readonly trainedWindow?: number;
  readonly json?: true;
}

export function addInspect(program: Command, io: Io): void {
  program
    .command("inspect")
    .description("architecture, parameters, cache size and RoPE of a model, and what a method does to its rotary pairs")
    .argument("<model>")
    .option(
      "--lengths <list>",
      "texts to give the cache size for, e.g. 2k,8k,32k; by default 1, 2, 4 and 8 trained windows",
      parseLengths,
    )
    .option("--method <spec>", "show the rotary pairs under this method, e.g. yarn:factor=4")
    .addOption(tokensOption("--length <tokens>", "length of the text for --method; 4 trained windows unless given"))
    .addOption(tokensOption("--trained-window <tokens>", "T, in place of what the checkpoint says"))
    .option("--json")
    .action(async (reference: string, options: InspectOptions) => {
      const { lengths, length, trainedWindow } = options;
      const method = methodOf(options) ?? (length === undefined ? undefined : compose());
      const checkpoint = await openReference(reference, io, trainedWindow);
      try {
        const inspection = inspectCheckpoint(checkpoint, { lengths, length, method });
        io.out(options.json ? `${JSON.stringify(inspection, null, 2)}\n` : inspectionText(inspection));
      } finally {
        checkpoint.close();
      }
    });
}

function parseLengths(list: string): number[] {
  return list.split(",").map((text) => parseTokens("--lengths", text));
}
