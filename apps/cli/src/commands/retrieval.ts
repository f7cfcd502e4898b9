import { join } from "node:path";
import type { Command } from "commander";
import {
  LongctxError,
  listed,
  MEASURE_POSITIONS,
  measureRetrieval,
  spreadRows,
  type HeadMeasure,
  type MeasurePositions,
  type RetrievalMeasure,
  type RetrievalMeasures,
} from "longctx";
import { checkFolder, readText, writeAtomically } from "../files.ts";
import { columns, count, duration } from "../format.ts";
import type { Io } from "../io.ts";
import { addReadingOptions, numberOption, tokensOption, type ReadingOptions } from "../options.ts";
import { Progress } from "../progress.ts";
import { methodOf, openModel, tokenizerOf } from "../reading.ts";

interface RetrievalOptions extends ReadingOptions {
  readonly length?: number;
  readonly rows: number;
  readonly from?: number;
  readonly layers?: readonly number[];
  readonly top: number;
  readonly positions: MeasurePositions;
  readonly out?: string;
  readonly json?: true;
}

export function addRetrieval(program: Command, io: Io): void {
  const command = program
    .command("retrieval")
    .description(
      "what a method fetches of a text, how much attention it keeps, and how far its output is off, by layer",
    )
    .argument("<model>")
    .argument("<file>", "a text in UTF-8")
    .addOption(tokensOption("--length <tokens>", "read only the first tokens of the text"))
    .addOption(
      numberOption("--rows <n>", "queries that are measured, spread evenly", { min: 1, integer: true }).default(32),
    )
    .addOption(tokensOption("--from <token>", "the first query that may be measured; half of the text unless given"))
    .option("--layers <list>", "layers that are measured: 0,5,10-14; all unless given", parseLayers)
    .addOption(
      numberOption("--top <k>", "recall asks for the k best far tokens", { min: 1, integer: true }).default(32),
    )
    .option(
      "--positions <where>",
      "exact attention at positions of the text (text), or where the method puts tokens (method)",
      parsePositions,
      "text",
    )
    .option("--out <folder>", "writes retrieval.csv, retrieval.json and retrieval.svg (layer × head) there")
    .option("--json");
  addReadingOptions(command).action((reference: string, file: string, options: RetrievalOptions) =>
    measure(reference, file, options, io),
  );
}

async function measure(reference: string, file: string, options: RetrievalOptions, io: Io): Promise<void> {
  methodOf(options);
  const { out, rows: wanted, layers, top, positions } = options;
  if (out !== undefined) await checkFolder(out);
  const text = await readText(file);
  const opened = await openModel(reference, options, io, (checkpoint) => {
    const ids = firstTokens(tokenizerOf(checkpoint).encode(text), file, options.length);
    return { ids, rows: rowsOf(ids.length, wanted, options.from) };
  });
  const { model, method, prepared } = opened;
  const { ids, rows } = prepared;
  try {
    // The rings of the plain model hold the whole text, whatever the method would evict.
    const plain = model.session({ chunk: options.chunk, capacity: ids.length });
    const session = method ? plain.fork({ method }) : plain;
    const progress = new Progress(io, "Measuring:");
    const begin = performance.now();
    const measures = await measureRetrieval(session, ids, {
      rows,
      layers,
      top,
      positions,
      signal: io.signal,
      onProgress: (done, total, measured) => progress.update(done, total, `row ${measured} of ${rows.length}`),
    }).finally(() => progress.clear());
    const spec = method?.spec ?? "none";
    const { device, precision } = model.backend;
    const result = { model: reference, text: file, method: spec, device, precision, tokens: ids.length, ...measures };
    if (measures.heads.length === 0)
      throw new LongctxError("aborted", "Stopped before a row was measured, as asked; nothing is written.");
    const json = `${JSON.stringify(result, null, 2)}\n`;
    if (options.json) io.out(json);
    else io.out(table(measures));
    if (out !== undefined) {
      const { queryHeads, layerCount } = model.config;
      const picture = await figure(result, queryHeads, layerCount);
      for (const [name, content] of [
        ["retrieval.csv", csv(measures.heads)],
        ["retrieval.json", json],
        ["retrieval.svg", picture],
      ] as const)
        await writeAtomically(join(out, name), (append) => append(content));
    }
    const seconds = (performance.now() - begin) / 1000;
    io.err(
      `${count(ids.length)} tokens under ${spec}, ${measures.aborted ? `stopped after ${measures.rows.length} of ` : ""}${rows.length} rows, ${duration(seconds)}${out === undefined ? "" : `; files in ${out}`}\n`,
    );
  } finally {
    await model.dispose();
  }
}

function firstTokens(ids: number[], file: string, length = ids.length): number[] {
  if (length > ids.length)
    throw new LongctxError(
      "argument",
      `--length is ${length}, but ${file} has ${ids.length} tokens; give a longer text or a smaller length.`,
    );
  if (ids.length === 0) throw new LongctxError("argument", `${file} has no tokens; give a longer text.`);
  return ids.slice(0, length);
}

function rowsOf(length: number, wanted: number, from = Math.floor(length / 2)): number[] {
  if (from < length) return spreadRows(from, length, wanted);
  throw new LongctxError(
    "argument",
    `--from is ${from}, but the last of the ${length} tokens is ${length - 1}; give a smaller one.`,
  );
}

/** "0,5,10-14" → [0, 5, 10, 11, 12, 13, 14]. @throws LongctxError "argument" */
function parseLayers(text: string): number[] {
  const layers = text.split(",").flatMap((part) => {
    const [, first, last = first] = /^\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first))
      throw new LongctxError(
        "argument",
        `--layers has "${part.trim()}" in "${text}"; write layers as 0,5,10-14, counted from 0.`,
      );
    return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i);
  });
  return [...new Set(layers)].sort((a, b) => a - b);
}

function parsePositions(name: string): MeasurePositions {
  const positions = MEASURE_POSITIONS.find((known) => known === name);
  if (positions) return positions;
  throw new LongctxError("argument", `--positions is "${name}", but has to be ${listed(MEASURE_POSITIONS)}.`);
}

/** What a table and a picture show of a measure. */
const MEASURES = [
  { name: "recall", title: "recall of the best far tokens" },
  { name: "kept", title: "attention mass kept" },
  { name: "far", title: "mass of far tokens" },
  { name: "fetched", title: "share of the far mass fetched" },
  { name: "error", title: "relative error of the output" },
] as const satisfies readonly { readonly name: keyof RetrievalMeasure; readonly title: string }[];

/** A line a layer, all heads together, and the mean over layers. */
function table({ layers }: RetrievalMeasures): string {
  const cells = (values: Pick<RetrievalMeasure, (typeof MEASURES)[number]["name"]>) =>
    MEASURES.map(({ name }) => values[name]?.toFixed(3) ?? "-");
  const mean = Object.fromEntries(
    MEASURES.map(({ name }) => {
      const values = layers.flatMap((layer) => layer[name] ?? []);
      return [name, values.length > 0 ? values.reduce((sum, value) => sum + value, 0) / values.length : null];
    }),
  ) as unknown as RetrievalMeasure;
  return columns([
    ["layer", ...MEASURES.map(({ name }) => name)],
    ...layers.map((layer) => [layer.layer, ...cells(layer)]),
    ["mean", ...cells(mean)],
  ]);
}

function csv(heads: readonly HeadMeasure[]): string {
  const names = ["layer", "head", "rows", ...MEASURES.map(({ name }) => name)] as const;
  const lines = heads.map((head) => names.map((name) => digits(head[name])).join(","));
  return [names.join(","), ...lines, ""].join("\r\n");
}

/** Six digits that matter; an empty cell where there is nothing. */
function digits(value: number | null): string {
  return value === null ? "" : String(Number(value.toPrecision(6)));
}

/** Drawing takes a while to load, so other commands do not. */
async function figure(
  result: RetrievalMeasures & Readonly<Record<"model" | "method", string>> & { readonly tokens: number },
  heads: number,
  layers: number,
): Promise<string> {
  const { headFigure } = await import("@longctx/figures");
  const { model, method, tokens, rows, positions, top } = result;
  const panels = MEASURES.map(({ name, title }) => {
    const values = Array.from({ length: layers }, () => Array.from({ length: heads }, (): number | null => null));
    for (const { layer, head, [name]: value } of result.heads) values[layer][head] = value;
    const most = Math.max(...values.flat().map((value) => value ?? 0));
    return { title, values, domain: [0, name === "error" ? most || 1 : 1] as const };
  });
  return headFigure({
    title: `${model}: ${method}`,
    subtitle: [
      `${count(tokens)} tokens, ${rows.length} queries; against exact attention over the whole text at positions of the ${positions}; far tokens are seen only if they are fetched; best ${top}`,
    ],
    heads,
    panels: panels.filter(({ values }) => values.flat().some((value) => value !== null)),
  });
}
