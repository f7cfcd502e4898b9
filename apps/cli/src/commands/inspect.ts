import type { Command } from "commander";
import { openReference } from "../downloads.ts";
import { inspectCheckpoint } from "../inspection.ts";
import { inspectionText } from "../inspection-text.ts";
import type { Io } from "../io.ts";
import { parseTokens } from "../options.ts";

interface InspectOptions {
  readonly lengths?: readonly number[];
  readonly json?: true;
}

export function addInspect(program: Command, io: Io): void {
  program
    .command("inspect")
    .description("architecture, parameters, cache size and RoPE of a model")
    .argument("<model>")
    .option(
      "--lengths <list>",
      "texts to give the cache size for, e.g. 2k,8k,32k; by default 1, 2, 4 and 8 trained windows",
      parseLengths,
    )
    .option("--json")
    .action(async (reference: string, options: InspectOptions) => {
      const checkpoint = await openReference(reference, io);
      try {
        const inspection = inspectCheckpoint(checkpoint, options.lengths);
        io.out(options.json ? `${JSON.stringify(inspection, null, 2)}\n` : inspectionText(inspection));
      } finally {
        checkpoint.close();
      }
    });
}

function parseLengths(list: string): number[] {
  return list.split(",").map((text) => parseTokens("--lengths", text));
}
