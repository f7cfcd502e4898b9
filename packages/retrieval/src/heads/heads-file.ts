import { LongctxError, type LanguageModel, type ModelConfig } from "@longctx/core";
import type { Finding, HalvesFinding } from "./findings.ts";
import type { LayerHead } from "./head-probe.ts";
import type { HeadResults } from "./measure-heads.ts";

export const HEADS_FORMAT = "longctx heads 1";

/** The model whose heads were measured: its name, its shape, and the checksum of its weights, null where it is not known. */
export interface HeadsModel {
  readonly name: string;
  readonly architecture: string;
  readonly layers: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  readonly hidden: number;
  readonly vocabulary: number;
  readonly weights: number | null;
}

/** How heads were measured, for the record. */
export interface HeadsMeasured {
  readonly length: number;
  readonly seed: number;
  readonly kinds: readonly string[];
  readonly method: string;
  readonly device: string;
  readonly precision: string;
}

/** What of a heads file those need who use its heads. */
export interface HeadsFile {
  readonly format: typeof HEADS_FORMAT;
  /** Absent where somebody wrote the file by hand. */
  readonly model?: HeadsModel;
  readonly best: readonly LayerHead[];
}

/** Returns the description by which `shippedHeads` knows a model again. */
export function headsModel(
  { config, weightsChecksum }: Pick<LanguageModel, "config" | "weightsChecksum">,
  name: string,
): HeadsModel {
  return {
    name,
    architecture: config.modelType,
    layers: config.layerCount,
    heads: config.queryHeads,
    keyHeads: config.keyHeads,
    headSize: config.headSize,
    hidden: config.hiddenSize,
    vocabulary: config.vocabSize,
    weights: weightsChecksum,
  };
}

/** Writes results as a heads file: JSON with a line for each head and each set. */
export function writeHeads(model: HeadsModel, measured: HeadsMeasured, results: HeadResults): string {
  const { read, planned, phrase, best, sets, heads } = results;
  const lines = (rows: readonly object[]) => `[\n${rows.map((row) => `    ${JSON.stringify(row)}`).join(",\n")}\n  ]`;
  const fields = [
    ["format", JSON.stringify(HEADS_FORMAT)],
    ["model", JSON.stringify(model)],
    ["measured", JSON.stringify({ ...measured, phrase, prompts: read, planned })],
    ["best", JSON.stringify(best)],
    ["sets", lines(sets.map((set) => ({ heads: set.heads, ...rounded(set) })))],
    ["heads", lines(heads.map(({ head: [layer, head], ...found }) => ({ layer, head, ...rounded(found) })))],
  ];
  return `{\n${fields.map(([name, value]) => `  "${name}": ${value}`).join(",\n")}\n}\n`;
}

/** Findings as [prompts, share of rank 1, median margin, worst margin], with four digits that matter. */
function rounded({ chosen, heldOut, kinds }: HalvesFinding): object {
  const digits = (value: number) => Number(value.toPrecision(4));
  const row = ({ prompts, first, median, worst }: Finding) => [prompts, digits(first), digits(median), digits(worst)];
  return {
    chosen: row(chosen),
    heldOut: row(heldOut),
    kinds: Object.fromEntries(Object.entries(kinds).map(([kind, finding]) => [kind, row(finding)])),
  };
}

/** Reads the content of a heads file, of which `format` and `best` are needed. @throws LongctxError "file" */
export function readHeads(content: unknown, place = "The heads file"): HeadsFile {
  const { format, best, model } = (content ?? {}) as Readonly<Record<string, unknown>>;
  if (format !== HEADS_FORMAT)
    throw new LongctxError(
      "file",
      `${place} has the format ${JSON.stringify(format) ?? "undefined"}, but has to have "${HEADS_FORMAT}"; \`longctx heads\` writes it.`,
    );
  if (!Array.isArray(best) || best.length === 0 || !best.every(isLayerHead))
    throw new LongctxError(
      "file",
      `${place} has to have pairs of layer and head as "best", such as [[14, 3], [15, 6]]; \`longctx heads\` writes it.`,
    );
  return { format, best, ...(model === undefined ? {} : { model: model as HeadsModel }) };
}

function isLayerHead(value: unknown): value is LayerHead {
  return Array.isArray(value) && value.length === 2 && value.every((one) => Number.isSafeInteger(one) && one >= 0);
}

/** Checks that a model has the heads. @throws LongctxError "argument" */
export function checkHeads(
  heads: readonly LayerHead[],
  { layerCount, queryHeads }: Pick<ModelConfig, "layerCount" | "queryHeads">,
  place = "The heads file",
): void {
  const missing = heads.find(([layer, head]) => layer >= layerCount || head >= queryHeads);
  if (missing)
    throw new LongctxError(
      "argument",
      `${place} names head ${missing.join(".")}, but the model has layers 0 to ${layerCount - 1} of heads 0 to ${queryHeads - 1}; measure this model with \`longctx heads\`.`,
    );
}
