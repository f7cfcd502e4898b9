import type { Command } from "commander";
import { LongctxError, makeSampler, type Checkpoint, type Generation, type SamplingOptions } from "longctx";
import { createColors } from "picocolors";
import { bytes, deviceMemory, rate } from "../format.ts";
import type { Io } from "../io.ts";
import { addReadingOptions, numberOption, tokensOption, type ReadingOptions } from "../options.ts";
import { Progress } from "../progress.ts";
import { methodOf, openModel, tokenizerOf } from "../reading.ts";

interface GenerateOptions extends ReadingOptions, SamplingOptions {
  readonly raw?: true;
  readonly system?: string;
  readonly maxNew: number;
  readonly stop?: readonly string[];
  readonly capacity?: number;
}

export function addGenerate(program: Command, io: Io): void {
  const command = program
    .command("generate")
    .description("continue a prompt; the text on stdout, figures on stderr")
    .argument("<model>")
    .argument("<prompt>", "- reads it from stdin")
    .option("--raw", "the prompt as it is, without the model's chat template")
    .option("--system <text>", "a system message for the chat template")
    .addOption(
      numberOption("--max-new <tokens>", "at most this many new tokens", { min: 0, integer: true }).default(128),
    )
    .addOption(numberOption("--temperature <x>", "0 is greedy", { min: 0 }).default(0))
    .addOption(numberOption("--top-k <n>", "draw among the n likeliest tokens; 0 for all", { min: 0, integer: true }))
    .addOption(numberOption("--top-p <p>", "draw among the likeliest tokens that sum to p", { min: 0, max: 1 }))
    .addOption(
      numberOption("--min-p <p>", "draw among tokens at least p times as likely as the likeliest", { min: 0, max: 1 }),
    )
    .addOption(
      numberOption("--repetition-penalty <x>", "make tokens already in the text less likely; 1 is off", {
        min: 0,
        above: true,
      }),
    )
    .addOption(numberOption("--seed <n>", "the same seed draws the same text", { min: 0, integer: true }))
    .option("--stop <text...>", "texts that end the generation")
    .addOption(tokensOption("--capacity <tokens>", "tokens the cache holds; prompt + max-new unless given"));
  addReadingOptions(command).action((reference: string, prompt: string, options: GenerateOptions) =>
    generate(reference, prompt, options, io),
  );
}

async function generate(reference: string, given: string, options: GenerateOptions, io: Io): Promise<void> {
  methodOf(options);
  makeSampler(options);
  const prompt = given === "-" ? await io.input() : given;
  const {
    model,
    method,
    prepared: ids,
  } = await openModel(reference, options, io, (checkpoint, bounded) => {
    const prompted = promptIds(checkpoint, prompt, options);
    if (prompted.length === 0) throw new LongctxError("argument", "The prompt has no tokens; write something.");
    if (!bounded) checkCapacity(prompted.length, options.capacity);
    return prompted;
  });
  try {
    const session = model.session({
      method,
      chunk: options.chunk,
      capacity: options.capacity ?? ids.length + options.maxNew,
    });
    const progress = new Progress(io, "Reading the prompt:");
    const { temperature, topK, topP, minP, repetitionPenalty, seed, maxNew, stop } = options;
    const generation = session.generate({
      prompt: ids,
      maxNew,
      temperature,
      topK,
      topP,
      minP,
      repetitionPenalty,
      seed,
      stop,
      signal: io.signal,
      onPrefill: (done, total) => (io.errIsTerminal ? progress.update(done, total) : undefined),
    });
    const timing = await stream(generation, io, progress);
    if (io.outIsTerminal && !generation.text.endsWith("\n")) io.out("\n");
    const held = model.backend.memory?.();
    const figures = [
      `prompt ${ids.length} tokens, ${rate(ids.length / timing.prefill)} tok/s`,
      `new ${generation.ids.length} tokens, ${rate(timing.decode > 0 ? (generation.ids.length - 1) / timing.decode : NaN)} tok/s`,
      `cache ${bytes(session.bytes)}`,
      ...(held ? [deviceMemory(held)] : []),
      `end: ${generation.reason}`,
    ];
    io.err(`${createColors(io.errIsTerminal).dim(figures.join("; "))}\n`);
  } finally {
    await model.dispose();
  }
}

/** Seconds until the first token, and from there to the end; 0 when there was no second one. */
async function stream(
  generation: Generation,
  io: Io,
  progress: Progress,
): Promise<{ prefill: number; decode: number }> {
  const begin = performance.now();
  let first = NaN;
  let tokens = 0;
  try {
    for await (const { text } of generation) {
      if (Number.isNaN(first)) {
        first = performance.now();
        progress.clear();
      }
      tokens++;
      io.out(text);
    }
  } finally {
    progress.clear();
  }
  const end = performance.now();
  if (Number.isNaN(first)) first = end;
  return { prefill: (first - begin) / 1000, decode: tokens > 1 ? (end - first) / 1000 : 0 };
}

function checkCapacity(length: number, capacity = Infinity): void {
  if (length <= capacity) return;
  throw new LongctxError(
    "capacity",
    `The prompt has ${length} tokens, but --capacity is ${capacity}; give at least ${length}, or a method that bounds the cache (streaming).`,
  );
}

function promptIds(checkpoint: Checkpoint, prompt: string, options: GenerateOptions): number[] {
  const tokenizer = tokenizerOf(checkpoint);
  if (options.raw || !checkpoint.chatTemplate) return tokenizer.encode(prompt);
  const system = options.system === undefined ? [] : [{ role: "system", content: options.system } as const];
  const text = checkpoint.chatTemplate([...system, { role: "user", content: prompt }], { addGenerationPrompt: true });
  return tokenizer.encode(text, { special: false });
}
