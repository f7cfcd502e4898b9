import { measurePerplexity, type BlockLoss } from "@longctx/tasks";
import type { Command } from "commander";
import { LongctxError } from "longctx";
import { readText } from "../files.ts";
import { columns, count, duration, rate } from "../format.ts";
import type { Io } from "../io.ts";
import { addReadingOptions, tokensOption, type ReadingOptions } from "../options.ts";
import { Progress } from "../progress.ts";
import { methodOf, openModel, tokenizerOf } from "../reading.ts";

interface PerplexityOptions extends ReadingOptions {
  readonly length?: number;
  readonly block: number;
  readonly json?: true;
}

export function addPerplexity(program: Command, io: Io): void {
  const command = program
    .command("perplexity")
    .description("mean loss (nats a token) of a text, by block of its length")
    .argument("<model>")
    .argument("<file>", "a text in UTF-8")
    .addOption(tokensOption("--length <tokens>", "read only the first tokens of the text"))
    .addOption(tokensOption("--block <tokens>", "predictions in a block").default(2048))
    .option("--json");
  addReadingOptions(command).action((reference: string, file: string, options: PerplexityOptions) =>
    readPerplexity(reference, file, options, io),
  );
}

async function readPerplexity(reference: string, file: string, options: PerplexityOptions, io: Io): Promise<void> {
  methodOf(options);
  const text = await readText(file);
  const {
    model,
    method,
    prepared: ids,
  } = await openModel(reference, options, io, (checkpoint) =>
    firstTokens(tokenizerOf(checkpoint).encode(text), file, options.length),
  );
  try {
    const session = model.session({ method, chunk: options.chunk, capacity: ids.length });
    const progress = new Progress(io, "Reading");
    const begin = performance.now();
    const { blocks, whole } = await measurePerplexity(session, ids, {
      block: options.block,
      signal: io.signal,
      onProgress: (done, total) => progress.update(done, total),
    }).finally(() => progress.clear());
    const seconds = (performance.now() - begin) / 1000;
    const spec = method?.spec ?? "none";
    const ahead = (method?.groupSize ?? 1) - 1; // tokens that choose what an earlier one of their group sees
    if (options.json) {
      const { device, precision } = model.backend;
      io.out(
        `${JSON.stringify({ model: reference, text: file, method: spec, device, precision, tokens: ids.length, tokens_ahead: ahead, block: options.block, blocks, ...whole }, null, 2)}\n`,
      );
    } else {
      io.out(table([...blocks, whole]));
      if (ahead > 0)
        io.out(
          `Under ${spec} a token sees what its group of ${count(ahead + 1)} tokens chose together, so up to ${count(ahead)} tokens ahead of it had a say.\n`,
        );
    }
    io.err(
      `${count(ids.length)} tokens under ${spec} in ${duration(seconds)} (${rate(ids.length / seconds)} tok/s), cache ${count(session.bytes)} bytes\n`,
    );
  } finally {
    await model.dispose();
  }
}

function firstTokens(ids: number[], file: string, length: number | undefined): number[] {
  if (length !== undefined && length > ids.length)
    throw new LongctxError(
      "argument",
      `--length is ${length}, but ${file} has ${ids.length} tokens; give a longer text or a smaller length.`,
    );
  const first = ids.slice(0, length);
  if (first.length < 2)
    throw new LongctxError(
      "argument",
      `A loss needs at least 2 tokens, and there ${first.length === 1 ? "is 1" : "are none"}; give a longer text or a larger --length.`,
    );
  return first;
}

function table(rows: readonly BlockLoss[]): string {
  const cells = rows.map(({ from, to, predictions, nats, perplexity }) => [
    `${from}..${to}`,
    predictions,
    nats.toFixed(4),
    perplexity.toPrecision(5),
  ]);
  return columns([["tokens", "predictions", "nats", "perplexity"], ...cells]);
}
