import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { DEVICES, findSmolLM2, PRECISIONS, type Device, type Precision } from "longctx";
import { blocksCost } from "./blocks-cost/blocks-cost.ts";
import { compareWithPeers } from "./cpu-vs-peers.ts";
import { endlessStream } from "./endless-stream.ts";
import { hnswRecall } from "./hnsw-recall/hnsw-recall.ts";
import { methodCost } from "./method-cost.ts";
import { passkeyOutcomes } from "./passkey-outcomes.ts";
import { comparePrecisions } from "./precision.ts";
import { compareTrees } from "./two-trees/two-trees.ts";
import { compareOnSameAdapter } from "./webgpu-same-adapter.ts";
import { loadingTimes } from "./webgpu-loading.ts";
import { stepTimes } from "./webgpu-step.ts";

/** What the user wrote, without paths of this machine. */
const command = `pnpm -C benchmarks -s bench ${process.argv.slice(2).filter(notThePath).join(" ")}`;

function notThePath(argument: string, index: number, all: readonly string[]): boolean {
  return ["--model", "--kept"].every(
    (option) => argument !== option && all[index - 1] !== option && !argument.startsWith(`${option}=`),
  );
}

const program = new Command("bench")
  .description("Measures this checkout; everything reads SmolLM2-135M-Instruct: LONGCTX_SMOLLM2, else the fetched one.")
  .option("--model <file>", "another GGUF file")
  .showHelpAfterError();

const integer = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("give a whole number of at least 1.");
  return value;
};
const integers = (text: string): number[] => text.split(",").map((part) => integer(part.trim()));
const names = (text: string): string[] => text.split(",").map((name) => name.trim());

program
  .command("cpu-vs-peers")
  .description("prefill, decoding and memory against llama.cpp and transformers; writes docs/benchmarks.md")
  .option("--lengths <tokens,...>", "lengths of the text", integers, [512, 2048, 8000])
  .option("--rounds <count>", "rounds over all engines at each length", integer, 3)
  .option("--decode <count>", "tokens decoded after the text", integer, 64)
  .option("--peers <name,...>", "whom to compare with", names, ["llama.cpp", "transformers"])
  .option("--dry", "print only, write no files", false)
  .action((options: { lengths: number[]; rounds: number; decode: number; peers: string[]; dry: boolean }) =>
    compareWithPeers({ ...options, model: modelFile(), decodeTokens: options.decode, command }),
  );

program
  .command("passkey-outcomes")
  .description("95 passkey prompts, outcome by outcome against transformers; can be stopped and continued")
  .addOption(new Option("--precision <name>").choices(PRECISIONS).default("exact"))
  .option("--lengths <tokens,...>", "only these lengths", integers)
  .option("--fresh", "forget what an earlier run has done", false)
  .action((options: { precision: Precision; lengths?: number[]; fresh: boolean }) =>
    passkeyOutcomes({ ...options, model: modelFile(), lengths: options.lengths ?? null, command }),
  );

program
  .command("method-cost")
  .description("prefill and decoding of every method beside those of the model as it is; writes docs/benchmarks.md")
  .addOption(new Option("--precision <name>").choices(PRECISIONS).default("exact"))
  .option("--length <tokens>", "length of the text", integer, 8192)
  .option("--rounds <count>", "rounds over all methods", integer, 1)
  .option("--methods <spec...>", "only these; the other rows of the last results stay")
  .action((options: { precision: Precision; length: number; rounds: number; methods?: string[] }) =>
    methodCost({ ...options, model: modelFile(), methods: options.methods ?? null, command }),
  );

program
  .command("two-trees")
  .description("this checkout against another one: prefill and decoding on the cpu, in turns, as ratios")
  .requiredOption("--before <folder>", "the other checkout, with its packages installed")
  .option("--precisions <name,...>", "exact, fast", names, ["exact", "fast"])
  .option("--lengths <tokens,...>", "lengths of the text", integers, [512, 2048])
  .option("--methods <spec...>", "methods", ["none"])
  .option("--rounds <count>", "rounds of each", integer, 9)
  .action(
    (options: { before: string; precisions: Precision[]; lengths: number[]; methods: string[]; rounds: number }) =>
      compareTrees({ ...options, model: modelFile() }),
  );

program
  .command("endless-stream")
  .description("a long text through a cache of fixed size: do late tokens cost what early ones do?")
  .addOption(new Option("--precision <name>").choices(PRECISIONS).default("exact"))
  .option("--method <spec>", "a method that bounds the cache", "streaming:sinks=4,window=1020")
  .option("--length <tokens>", "length of the stream", integer, 200_000)
  .action((options: { precision: Precision; method: string; length: number }) =>
    endlessStream({ ...options, model: modelFile(), command }),
  );

program
  .command("hnsw-recall")
  .description(
    "hnsw on the keys and queries of a model that reads a novel: recall, insertions, searches, exact beside it",
  )
  .option("--lengths <tokens,...>", "lengths of the text", integers, [8192, 32_768, 131_072])
  .option("--layers <layer,...>", "layers", integers, [15, 20])
  .option("--kept <folder>", "where keys and queries are kept for the next run, instead of runs/hnsw-recall")
  .option("--dry", "print only, write no file", false)
  .action((options: { lengths: number[]; layers: number[]; kept?: string; dry: boolean }) =>
    hnswRecall({ ...options, kept: options.kept ?? null, model: modelFile(), command }),
  );

program
  .command("blocks-cost")
  .description(
    "block retrieval over a long text beside a method that sees as many tokens; can be stopped and continued",
  )
  .addOption(new Option("--precision <name>").choices(PRECISIONS).default("fast"))
  .option("--method <spec>", "a method that reads old tokens in blocks", "blocks:local=4096,size=128,top=16")
  .option("--beside <spec>", "a method that sees as many tokens", "streaming:sinks=4,window=6524")
  .option("--length <tokens>", "length of the text", integer, 131_072)
  .option("--early <tokens>", "length of the short text whose decoding is compared", integer, 8192)
  .option("--far-folder <path>", "keep old tokens in a file there")
  .option("--fresh", "forget what an earlier run has done", false)
  .option("--name <name>", "of the results file, and of the table in docs/benchmarks.md", "blocks-cost")
  .action(
    (options: {
      name: string;
      precision: Precision;
      method: string;
      beside: string;
      length: number;
      early: number;
      farFolder?: string;
      fresh: boolean;
    }) => blocksCost({ ...options, farFolder: options.farFolder ?? null, model: modelFile(), command }),
  );

program
  .command("webgpu-same-adapter")
  .description("kernels against onnxruntime's WebGPU provider on the adapter of this machine")
  .option("--rounds <count>", "rounds over both sides", integer, 7)
  .option("--only <name...>", "only contests whose names begin so")
  .option("--dry", "print only, write no file", false)
  .action((options: { rounds: number; only?: string[]; dry: boolean }) =>
    compareOnSameAdapter({ ...options, only: options.only ?? null, command }),
  );

program
  .command("webgpu-step")
  .description("a decode step on WebGPU: time by kernel, dispatches, bytes read back, and what it costs the host")
  .option("--length <tokens>", "tokens in the cache", integer, 64)
  .option("--rounds <count>", "steps measured", integer, 11)
  .option("--dry", "print only, write no file", false)
  .action((options: { length: number; rounds: number; dry: boolean }) =>
    stepTimes({ ...options, model: modelFile(), command }),
  );

program
  .command("webgpu-loading")
  .description("loading on WebGPU: time, how long it holds the thread, memory")
  .action(() => loadingTimes({ model: modelFile() }));

program
  .command("precision")
  .description("what `fast` costs: logits, a greedy answer and passkeys of both precisions against transformers")
  .option("--longest <tokens>", "longest passkey prompts read", integer, 1024)
  .addOption(new Option("--device <name>").choices(DEVICES).default("cpu"))
  .action((options: { longest: number; device: Device }) =>
    comparePrecisions({ ...options, model: modelFile(), command }),
  );

function modelFile(): string {
  const { model } = program.opts<{ model?: string }>();
  // pnpm runs scripts in the package's folder; paths are relative to where the user is.
  const path = model === undefined ? findSmolLM2() : resolve(process.env["INIT_CWD"] ?? ".", model);
  if (path === null)
    throw new Error(
      "SmolLM2 is not on this machine; run `longctx fetch smollm2` or set LONGCTX_SMOLLM2 to its .gguf file.",
    );
  return path;
}

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
