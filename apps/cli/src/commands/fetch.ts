import type { Command } from "commander";
import { fetchModel } from "longctx";
import { bytes } from "../format.ts";
import type { Io } from "../io.ts";
import { Progress } from "../progress.ts";

export function addFetch(program: Command, io: Io): void {
  program
    .command("fetch")
    .description("download a model once; its path on stdout")
    .argument("<name>", "smollm2 (SmolLM2-135M-Instruct, 98 MB)")
    .action(async (name: string) => {
      const progress = new Progress(io, "Fetching");
      const path = await fetchModel(name, {
        signal: io.signal,
        onProgress: ({ file, received, total }) => progress.update(received, total, `${file}: ${bytes(received)} of ${bytes(total)}`),
      }).finally(() => progress.clear());
      io.out(`${path}\n`);
    });
}
