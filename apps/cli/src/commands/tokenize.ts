import type { Command } from "commander";
import { openReference } from "../downloads.ts";
import { columns } from "../format.ts";
import type { Io } from "../io.ts";
import { tokenizerOf } from "../reading.ts";

export function addTokenize(program: Command, io: Io): void {
  program
    .command("tokenize")
    .description("the tokens of a text; special tokens written in it are recognised")
    .argument("<model>")
    .argument("<text>", "- reads it from stdin")
    .option("--json", "{ids, tokens}")
    .action(async (reference: string, given: string, options: { readonly json?: true }) => {
      const text = given === "-" ? await io.input() : given;
      const checkpoint = await openReference(reference, io);
      try {
        const tokenizer = tokenizerOf(checkpoint);
        const ids = tokenizer.encode(text);
        const tokens = ids.map((id) => tokenizer.token(id));
        if (options.json) io.out(`${JSON.stringify({ ids, tokens })}\n`);
        else io.out(columns(ids.map((id, i) => [id, JSON.stringify(tokens[i])])));
      } finally {
        checkpoint.close();
      }
    });
}
