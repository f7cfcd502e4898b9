import { basename } from "node:path";
import { headProbes, PROBE_KINDS, proseOf, type ProbeKind } from "@longctx/tasks";
import { Option, type Command } from "commander";
import {
  LongctxError,
  listed,
  measureHeads,
  writeHeads,
  type Checkpoint,
  type Finding,
  type Head,
  type HalvesFinding,
  type HeadProbe,
  type HeadResults,
} from "longctx";
import { checkOutput, readText, writeAtomically } from "../files.ts";
import { columns, count, duration } from "../format.ts";
import type { Io } from "../io.ts";
import { addReadingOptions, numberOption, tokensOption, type ReadingOptions } from "../options.ts";
import { Progress } from "../progress.ts";
import { methodOf, openModel, tokenizerOf } from "../reading.ts";

interface HeadsOptions extends ReadingOptions {
  readonly length?: number;
  readonly prompts: number;
  readonly seed: number;
  readonly kinds?: readonly ProbeKind[];
  readonly text?: readonly string[];
  readonly phrase: number;
  readonly layers?: number;
  readonly use?: readonly Head[];
  readonly show: number;
  readonly out?: string;
  readonly figure?: string;
  readonly json?: true;
}

/** Tokens of a prompt, where the model is trained for as many. */
const LENGTH = 1024;

export function addHeads(program: Command, io: Io): void {
  const command = program
    .command("heads")
    .description("which attention heads find a needle, by prompts that hide one; Ctrl-C reports what is measured")
    .argument("<model>")
    .addOption(tokensOption("--length <tokens>", `tokens of a prompt; ${LENGTH} or the trained window unless given`))
    .addOption(
      numberOption("--prompts <n>", "prompts of each kind, half of them held out", { min: 2, integer: true }).default(
        24,
      ),
    ) // prettier-ignore
    .addOption(numberOption("--seed <n>", "other needles and texts", { min: 0, integer: true }).default(1))
    .addOption(
      new Option("--kinds <list>", `of ${PROBE_KINDS.join(",")}; those that fit the tokenizer unless given`).argParser(
        parseKinds,
      ),
    )
    .option("--text <file...>", "texts in UTF-8 to hide needles in, in place of the novels")
    .addOption(
      numberOption("--phrase <tokens>", "neighbouring tokens whose attention is summed", { min: 1, integer: true }).default(3), // prettier-ignore
    )
    .addOption(
      numberOption("--layers <n>", "measure the heads of the first layers only; a reader computes no layer behind its heads", { min: 1, integer: true }), // prettier-ignore
    )
    .addOption(
      new Option("--use <heads>", "heads to use in place of those found best, e.g. 14.3,15.6").argParser(parseHeads),
    )
    .addOption(numberOption("--show <n>", "heads in the table", { min: 1, integer: true }).default(8))
    .option("--out <file>", "the heads file (JSON), for methods and readers that take one")
    .option("--figure <file>", "a picture (SVG) of all layers and heads")
    .option("--json", "the heads file on standard output in place of the table");
  addReadingOptions(command).action((reference: string, options: HeadsOptions) => findHeads(reference, options, io));
}

async function findHeads(reference: string, options: HeadsOptions, io: Io): Promise<void> {
  const { out, figure, phrase, layers, use, seed, chunk } = options;
  methodOf(options);
  for (const path of [out, figure]) if (path !== undefined) await checkOutput(path);
  const texts =
    options.text && (await Promise.all(options.text.map(async (path) => proseOf(path, await readText(path)))));
  const probesOf = (checkpoint: Checkpoint): { length: number; probes: HeadProbe[] } => {
    const trained = options.trainedWindow ?? checkpoint.config.trainedWindow;
    const length = options.length ?? Math.min(LENGTH, trained);
    if (options.method === undefined && length > trained)
      throw new LongctxError(
        "argument",
        `--length is ${length}, but the model is trained at ${trained} tokens; ask for shorter prompts, or name a --method that reads further.`,
      );
    return { length, probes: headProbes(tokenizerOf(checkpoint), { ...options, length, texts }) };
  };
  const { model, method, prepared } = await openModel(reference, options, io, probesOf);
  const { length, probes } = prepared;
  try {
    const progress = new Progress(io, "Reading");
    const begin = performance.now();
    const results = await measureHeads(model, probes, {
      phrase,
      layers,
      use,
      method,
      chunk,
      signal: io.signal,
      onProgress: (done, total) => progress.update(done, total, `${done} of ${total} prompts`),
    }).finally(() => progress.clear());
    const name = basename(reference).replace(/(\.(I?Q\d\w*|B?F16|F32))?\.gguf$/i, "");
    const kinds = [...new Set(probes.map(({ kind }) => kind))];
    const file = writeHeads(model, { name, length, seed, kinds, method: method?.spec ?? "none" }, results);
    io.out(options.json ? file : table(results, kinds, options.show));
    if (out !== undefined) await writeAtomically(out, (append) => append(file));
    if (figure !== undefined) {
      const { layerCount, queryHeads: heads } = model.config;
      const picture = await drawing(results, { name, length, layers: layers ?? layerCount, heads });
      await writeAtomically(figure, (append) => append(picture));
    }
    io.err(
      `${results.read} of ${results.planned} prompts of up to ${count(length)} tokens in ${duration((performance.now() - begin) / 1000)}, half of them held out; use ${named(results.best)}\n`,
    );
  } finally {
    await model.dispose();
  }
}

function parseKinds(list: string): ProbeKind[] {
  return list.split(",").map((text) => {
    const kind = PROBE_KINDS.find((known) => known === text.trim());
    if (kind) return kind;
    throw new LongctxError("argument", `--kinds has "${text}", but there is ${listed(PROBE_KINDS)}.`);
  });
}

/** "14.3,15.6" → [[14, 3], [15, 6]]. */
function parseHeads(list: string): Head[] {
  return list.split(",").map((text) => {
    const [, layer, head] = /^\s*(\d+)\.(\d+)\s*$/.exec(text) ?? [];
    if (layer !== undefined) return [Number(layer), Number(head)];
    throw new LongctxError("argument", `--use has "${text}", but has to be of layer.head, such as 14.3,15.6.`);
  });
}

function named(heads: readonly Head[]): string {
  return heads.map(([layer, head]) => `${layer}.${head}`).join(" + ");
}

/** The best heads, then sets of them: share of prompts with the needle first, and median and worst margin. */
function table({ heads, sets }: HeadResults, kinds: readonly string[], show: number): string {
  const cell = ({ first, median, worst }: Finding) =>
    `${Math.round(100 * first)} % (${margin(median)}/${margin(worst)})`;
  const row = (name: string, { chosen, heldOut, kinds: found }: HalvesFinding) => [
    name,
    cell(chosen),
    cell(heldOut),
    ...kinds.map((kind) => (found[kind] ? cell(found[kind]) : "-")),
  ];
  return columns([
    ["layer.head", "chosen by", "held out", ...kinds],
    ...heads.slice(0, show).map((finding) => row(named([finding.head]), finding)),
    ...sets.map((set) => row(named(set.heads), set)),
  ]);
}

/** 12.345 → "12", 1.234 → "1.2". */
function margin(value: number): string {
  return value >= 10 ? count(Math.round(value)) : value.toFixed(1);
}

interface Pictured {
  readonly name: string;
  readonly length: number;
  readonly layers: number;
  readonly heads: number;
}

/** Drawing takes a while to load, so other commands do not. */
async function drawing(results: HeadResults, { name, length, layers, heads }: Pictured): Promise<string> {
  const { headFigure } = await import("@longctx/figures");
  const values = (of: (finding: Finding) => number) => {
    const rows = Array.from({ length: layers }, () => Array.from({ length: heads }, () => 0));
    for (const { head, heldOut } of results.heads) rows[head[0]][head[1]] = of(heldOut);
    return rows;
  };
  return headFigure({
    title: `Heads of ${name} that find a needle`,
    subtitle: [
      `${results.heads[0].heldOut.prompts} held-out prompts of up to ${count(length)} tokens`,
      `framed: the heads to use, ${named(results.best)}`,
    ],
    heads,
    panels: [
      { title: "needle first", values: values(({ first }) => first), domain: [0, 1], about: "share of prompts" },
      { title: "median margin", values: values(({ median }) => median), ratio: true, about: "over the best other" },
    ],
    marked: results.best,
  });
}
