import { LongctxError, type ModelConfig } from "@longctx/core";
import smollm2 from "../../heads/smollm2-135m.json" with { type: "json" };
import tiny from "../../heads/tiny.json" with { type: "json" };

/** The format of a heads file that this version reads and writes. */
export const HEADS_FORMAT = "longctx heads 1";

/** A query head of a layer, both counted from 0. */
export type Head = readonly [layer: number, head: number];

/** The sizes that tell for which models a heads file was measured. */
export const SHAPE = [
  "modelType",
  "vocabSize",
  "hiddenSize",
  "layerCount",
  "queryHeads",
  "keyHeads",
  "headSize",
] as const;

/** Which heads of a model retrieve, as `longctx heads` measured it. */
export interface HeadsFile {
  readonly format: typeof HEADS_FORMAT;
  /** The model that was measured: a name for people, and the sizes by which its heads are recognised as another's. */
  readonly model: { readonly name: string } & Pick<ModelConfig, (typeof SHAPE)[number]>;
  /** The set of heads that finds best together. */
  readonly best: readonly Head[];
  /** What was measured of each head, for people and tables. */
  readonly heads: readonly unknown[];
}

/** The heads files that come with this package. */
const SHIPPED: readonly HeadsFile[] = [smollm2, tiny].map((content) =>
  readHeads(content, "a heads file of @longctx/retrieval"),
);

/**
 * Reads the content of a heads file; `place` names the file in errors.
 * @throws LongctxError "file" when the content is not a heads file, or its best heads are not heads of its model
 */
export function readHeads(content: unknown, place: string): HeadsFile {
  const wrong = (why: string) =>
    new LongctxError("file", `${place} ${why}; give a file that \`longctx heads MODEL\` wrote, unchanged.`);
  if (typeof content !== "object" || content === null) throw wrong("is not a heads file");
  const { format, model, best, heads } = content as Readonly<Record<keyof HeadsFile, unknown>>;
  if (format !== HEADS_FORMAT)
    throw wrong(`has the format ${JSON.stringify(format) ?? "none"} in place of "${HEADS_FORMAT}"`);
  if (!isModel(model)) throw wrong(`does not describe its model by name, ${SHAPE.join(", ")}`);
  if (!Array.isArray(best) || best.length === 0 || !best.every((one) => isHead(one, model)))
    throw wrong(
      `has best heads that are not pairs [layer, head] below [${model.layerCount}, ${model.queryHeads}], but ${shortened(best)}`,
    );
  if (!Array.isArray(heads)) throw wrong("has no list of heads");
  return { format, model, best, heads };
}

/**
 * Returns the best heads of a file for a model.
 * @throws LongctxError "argument" when the file was measured on a model of other sizes
 */
export function headsFor(file: HeadsFile, config: ModelConfig): readonly Head[] {
  const other = SHAPE.find((name) => file.model[name] !== config[name]);
  if (other)
    throw new LongctxError(
      "argument",
      `The heads were measured on ${file.model.name}, whose ${other} is ${file.model[other]}, but the model's is ${config[other]}; measure this model with \`longctx heads\`.`,
    );
  return file.best;
}

/** Returns the heads file that comes with this package for models of these sizes, or null where there is none. */
export function shippedHeads(config: ModelConfig): HeadsFile | null {
  return SHIPPED.find(({ model }) => SHAPE.every((name) => model[name] === config[name])) ?? null;
}

function isModel(value: unknown): value is HeadsFile["model"] {
  if (typeof value !== "object" || value === null) return false;
  const model = value as Readonly<Record<string, unknown>>;
  return SHAPE.every((name) => (name === "modelType" ? typeof model[name] === "string" : isCount(model[name]))) && typeof model["name"] === "string"; // prettier-ignore
}

function isHead(value: unknown, { layerCount, queryHeads }: HeadsFile["model"]): value is Head {
  if (!Array.isArray(value) || value.length !== 2) return false;
  return [layerCount, queryHeads].every((count, i) => Number.isInteger(value[i]) && value[i] >= 0 && value[i] < count);
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function shortened(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
