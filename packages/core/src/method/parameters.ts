import { LongctxError, listed } from "../common/errors.ts";

/** A parameter whose value is a number, or a flag written as 0 or 1. */
export interface NumberParameter {
  readonly about: string;
  readonly unit: "tokens" | "ratio" | "flag" | "turns" | "radians" | "number";
  /**
   * The default value: null where the parameter is required; a text such as "2π/T" where the method computes the value.
   */
  readonly default: number | string | null;
  /**
   * The parameter's value in pictures and examples, for a trained window of 4096 tokens; a default makes it
   * unnecessary.
   */
  readonly example?: number;
  readonly min?: number;
  readonly max?: number;
  readonly integer?: boolean;
}

/** A parameter whose value is one of a few words. */
export interface ChoiceParameter {
  readonly about: string;
  readonly unit: "choice";
  readonly choices: readonly string[];
  /** The default value; a text that is none of the words where the method decides by its other parameters. */
  readonly default: string;
}

/** A parameter whose value is a set of layers: all, or their numbers from 0, which a spec writes as `10/20`. */
export interface LayersParameter {
  readonly about: string;
  readonly unit: "layers";
  readonly default: "all";
}

/** A parameter whose value is a JSON file: a spec gives the path, and the method gets the content and checks it. */
export interface FileParameter {
  readonly about: string;
  readonly unit: "file";
  /** Null where the file is required; a text ("all heads") that says what the method does without one. */
  readonly default: null | string;
  /**
   * Returns the file content that pictures and examples use, for heads of `rotarySize` rotated channels; without it they
   * leave the file out.
   */
  readonly example?: (rotarySize: number) => unknown;
  /** The example's content, described in words for docs/methods.md. */
  readonly exampleAbout?: string;
}

/** The definition of one method parameter, for the command line, the docs and the checks. */
export type ParameterDefinition = NumberParameter | ChoiceParameter | LayersParameter | FileParameter;

/**
 * The value of a file parameter: the parsed content, and the path that the method's spec shows. A program may make one
 * without a file.
 */
export interface JsonFile {
  readonly path: string;
  readonly content: unknown;
}

/** A function that reads and parses a JSON file. @throws LongctxError "file" when the file is missing or not JSON */
export type JsonReader = (path: string) => unknown;

/** The type of a parameter's value: one of the words of a choice, layers, a file's content, or a number. */
export type ParameterValue<D extends ParameterDefinition = ParameterDefinition> = D extends ChoiceParameter
  ? D["choices"][number]
  : D extends LayersParameter
    ? "all" | readonly number[]
    : D extends FileParameter
      ? JsonFile
      : number;

/** The definitions of a method's parameters, by parameter name. */
export type ParameterTable = Readonly<Record<string, ParameterDefinition>>;

/** The parameter values that a caller gives: required for parameters whose default is null, optional for all others. */
export type GivenValues<P extends ParameterTable> = {
  readonly [Name in NeededName<P>]: ParameterValue<P[Name]>;
} & {
  readonly [Name in Exclude<keyof P, NeededName<P>>]?: ParameterValue<P[Name]>;
};

type NeededName<P extends ParameterTable> = {
  [Name in keyof P]: P[Name]["default"] extends null ? Name : never;
}[keyof P];

/**
 * The parameter values that `create` gets: the caller's, completed by defaults. A parameter whose default is a text
 * ("2π/T") is undefined where the caller gave none, and the method computes it.
 */
export type CompleteValues<P extends ParameterTable> = {
  readonly [Name in keyof P]: ParameterValue<P[Name]> | DescribedDefault<P[Name]>;
};

type DescribedDefault<D extends ParameterDefinition> = D extends NumberParameter | FileParameter
  ? Extract<D["default"], string> extends never
    ? never
    : undefined
  : D extends ChoiceParameter
    ? D["default"] extends D["choices"][number]
      ? never
      : undefined
    : never;

/**
 * Returns a parameter's default value, or undefined where the method computes the value or the caller has to give it.
 */
export function defaultOf(parameter: ParameterDefinition): ParameterValue | undefined {
  if (parameter.unit === "choice") return parameter.choices.includes(parameter.default) ? parameter.default : undefined;
  if (parameter.unit === "layers") return parameter.default;
  return typeof parameter.default === "number" ? parameter.default : undefined;
}

/** Returns a parameter's value for pictures and examples, or undefined where they leave the parameter out. */
export function exampleOf(parameter: ParameterDefinition, rotarySize: number): ParameterValue | undefined {
  if (parameter.unit === "choice" || parameter.unit === "layers") return undefined;
  if (parameter.unit === "file")
    return parameter.example && { path: "example.json", content: parameter.example(rotarySize) };
  return parameter.example ?? (parameter.default === null ? Math.max(parameter.min ?? 1, 1) : undefined);
}

/** The numbers that a spec may hold: 4, 0.5 or 1e4, but no hexadecimal numbers, Infinity or NaN. */
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * Converts a parameter's text in a spec to a value, which `checkParameter` still has to check; a flag may be true or
 * false.
 * @throws LongctxError "method" when the text is not a number where one is needed, and what `readJson` throws
 */
export function readParameter(
  method: string,
  key: string,
  parameter: ParameterDefinition,
  text: string,
  readJson: JsonReader | undefined,
): ParameterValue {
  if (parameter.unit === "choice") return text.trim();
  if (parameter.unit === "layers") return layersOf(text.trim()) ?? text.trim();
  if (parameter.unit === "file") {
    const path = text.trim();
    if (readJson) return { path, content: readJson(path) };
    throw new LongctxError(
      "method",
      `${method}: ${key} is the file ${path}, but nothing here reads files; make the method with its factory instead.`,
    );
  }
  const written = text.trim();
  if (parameter.unit === "flag" && (written === "true" || written === "false")) return written === "true" ? 1 : 0;
  if (DECIMAL.test(written)) return Number(written);
  if (key === "factor" && written === "auto")
    throw new LongctxError(
      "method",
      `${method}: factor=auto stands for length / trained window in the needle app only; write a number here, as factor=4.`,
    );
  throw refusal(method, key, parameter, written);
}

/** Writes a value as a spec spells it: 1e+21 becomes 1e21, because + separates methods in a spec. */
export function writeParameter(value: ParameterValue): string {
  if (isLayers(value)) return value.join("/");
  if (typeof value === "object") return value.path;
  return typeof value === "number" ? String(value).replace("e+", "e") : value;
}

/** Checks a parameter's value. @throws LongctxError "method" when the parameter does not take the value */
export function checkParameter(
  method: string,
  key: string,
  parameter: ParameterDefinition,
  value: ParameterValue,
): void {
  if (!fits(parameter, value)) throw refusal(method, key, parameter, writeParameter(value));
}

/** Reads layers as a spec writes them; null where the text is not that. */
function layersOf(text: string): readonly number[] | null {
  return /^\d+(\/\d+)*$/.test(text) ? text.split("/").map(Number) : null;
}

function isLayers(value: ParameterValue): value is readonly number[] {
  return Array.isArray(value);
}

function areLayers(layers: readonly number[]): boolean {
  return (
    layers.length > 0 &&
    layers.every((layer, i) => Number.isSafeInteger(layer) && layer >= 0 && (i === 0 || layer > layers[i - 1]))
  );
}

function refusal(method: string, key: string, parameter: ParameterDefinition, written: string): LongctxError {
  return new LongctxError(
    "method",
    `${method}: ${key} is ${written}, but has to be ${wanted(parameter)} (${parameter.about}).`,
  );
}

function fits(parameter: ParameterDefinition, value: ParameterValue): boolean {
  if (parameter.unit === "file") return typeof value === "object" && !isLayers(value);
  if (parameter.unit === "layers") return value === "all" || (isLayers(value) && areLayers(value));
  if (parameter.unit === "choice") return parameter.choices.some((choice) => choice === value);
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  if (parameter.unit === "flag") return value === 0 || value === 1;
  const { min = -Infinity, max = Infinity, integer = false } = parameter;
  return value >= min && value <= max && (!integer || Number.isInteger(value));
}

function wanted(parameter: ParameterDefinition): string {
  if (parameter.unit === "file") return "a JSON file";
  if (parameter.unit === "layers") return "all, or ascending numbers of layers from 0 with / between them, as 10/20";
  if (parameter.unit === "choice") return listed(parameter.choices);
  if (parameter.unit === "flag") return "0 or 1";
  const { min, max, integer = false } = parameter;
  const bounds = [min === undefined ? "" : `of at least ${min}`, max === undefined ? "" : `of at most ${max}`];
  return `a ${integer ? "whole " : ""}number ${bounds.filter((bound) => bound !== "").join(" and ")}`.trimEnd();
}
