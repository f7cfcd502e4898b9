import { Command, CommanderError } from "commander";
import { LongctxError } from "longctx";
import { addDraw } from "./commands/draw.ts";
import { addFetch } from "./commands/fetch.ts";
import { addGenerate } from "./commands/generate.ts";
import { addHeads } from "./commands/heads.ts";
import { addInspect } from "./commands/inspect.ts";
import { addLogits } from "./commands/logits.ts";
import { addMethods } from "./commands/methods.ts";
import { addPerplexity } from "./commands/perplexity.ts";
import { addPrecision } from "./commands/precision.ts";
import { addRetrieval } from "./commands/retrieval.ts";
import { addTokenize } from "./commands/tokenize.ts";
import { addTune } from "./commands/tune.ts";
import type { Io } from "./io.ts";

const INTERRUPTED = 130;

/** Runs one command line (without the program's name). @returns the exit code: 0, 1 for an error, 130 after Ctrl-C */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const program = new Command("longctx")
    .description("Long-context research for language models: load a model, compose methods, measure.")
    .option("--debug", "show the stack of an error")
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: () => undefined, outputError: () => undefined })
    .addHelpText(
      "after",
      `\nMODEL is "tiny" (embedded), "smollm2" (once fetched), a GGUF file, a folder in Hugging Face layout, or hf:org/name[@revision].
SPEC is a method with its parameters, or several joined by "+": yarn:factor=4+streaming:sinks=4,window=1020.`,
    );
  for (const add of [
    addFetch,
    addTokenize,
    addInspect,
    addDraw,
    addGenerate,
    addHeads,
    addMethods,
    addPerplexity,
    addRetrieval,
    addLogits,
    addPrecision,
    addTune,
  ])
    add(program, io);
  if (argv.length === 0) {
    program.outputHelp();
    return 0;
  }
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help
    if (!io.signal.aborted) io.err(`longctx: ${argv.includes("--debug") ? stackOf(error) : lineOf(error)}\n`);
    else if (!(error instanceof LongctxError && error.code === "aborted"))
      io.err(`longctx: Stopped by Ctrl-C (${lineOf(error)})\n`);
    else io.err(`longctx: ${lineOf(error)}\n`);
    return io.signal.aborted ? INTERRUPTED : 1;
  }
  return io.signal.aborted ? INTERRUPTED : 0;
}

function lineOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const line = message
    .replace(/^error: /, "")
    .replace(/\s*[\r\n]+\s*/g, " ")
    .trim();
  const expected =
    error instanceof LongctxError || error instanceof CommanderError || (error instanceof Error && "syscall" in error);
  return expected ? line : `${line} (a defect of longctx; --debug shows where)`;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
