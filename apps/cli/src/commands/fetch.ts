import type { Command } from "commander";
import { fetchModel, type FetchableModel } from "longctx";
import { withDownloads } from "../downloads.ts";
import type { Io } from "../io.ts";

export function addFetch(program: Command, io: Io): void {
  program
    .command("fetch")
    .description("download a model once; its path on stdout")
    .argument("<name>", "smollm2 (SmolLM2-135M-Instruct, 98 MB)")
    .action(async (name: string) => {
      // Another name is refused there.
      const path = await withDownloads(io, (options) => fetchModel(name as FetchableModel, options));
      io.out(`${path}\n`);
    });
}
