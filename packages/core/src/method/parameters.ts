import { LongctxError, listed } from "../common/errors.ts";

/** A number, or a flag that is 0 or 1. */
export interface NumberParameter {
  readonly about: string;
  readonly unit: "tokens" | "ratio" | "flag" | "turns" | "radians" | "number";
  /** null: it has to be given. A text says how it follows from the model ("0.1·ln(factor)+1"). */
  readonly default: number | string | null;
  /** For pictures and examples, at a trained window of 4096 tokens; what has a default needs none. */
  readonly example?: number;
  readonly min?: number;
  readonly max?: number;
  readonly integer?: boolean;
}

/** One of a few words. */
export interface ChoiceParameter {
  readonly about: string;
  readonly unit: "choice";
  readonly choices: readonly string[];
  readonly default: string;
}

/** The path of a JSON file on a command line; its content reaches the method, which checks it. */
export interface FileParameter {
  readonly about: string;
  readonly unit: "file";
  readonly default: null;
  /** Content that the method takes, for pictures and examples, where heads have so many rotated channels, d. */
  readonly example: (rotarySize: number) => unknown;
  /** What that content is, for who looks at a picture of it. */
  readonly exampleAbout: string;
}

/** One parameter of a method as the command line, the docs and the checks see it. */
export type ParameterDefinition = NumberParameter | ChoiceParameter | FileParameter;

/** What a file parameter is once it has been read; made without a file, `path` is the name that a spec shows. */
export interface JsonFile {
  readonly path: string;
  readonly content: unknown;
}

/** Reads a JSON file. @throws LongctxError "file" when it is missing or no JSON */
export type JsonReader = (path: string) => unknown;

export type ParameterValue<D extends ParameterDefinition = ParameterDefinition> = D extends ChoiceParameter
  ? D["choices"][number]
  : D extends FileParameter
    ? JsonFile
    : number;

/** The parameters of a method, by name. */
export type ParameterTable = Readonly<Record<string, ParameterDefinition>>;

/** The values a caller gives: all whose default is null, and any of the others. */
export type GivenValues<P extends ParameterTable> = {
  readonly [Name in NeededName<P>]: ParameterValue<P[Name]>;
} & {
  readonly [Name in Exclude<keyof P, NeededName<P>>]?: ParameterValue<P[Name]>;
};

type NeededName<P extends ParameterTable> = {
  [Name in keyof P]: P[Name]["default"] extends null ? Name : never;
}[keyof P];

/**
 * The values a method is made of: those given, and the defaults of the others. A parameter whose default is a text
 * ("2π/T") is undefined unless it is given, because the method computes that default from the model.
 */
export type CompleteValues<P extends ParameterTable> = {
  readonly [Name in keyof P]: ParameterValue<P[Name]> | DescribedDefault<P[Name]>;
};

type DescribedDefault<D extends ParameterDefinition> = D extends NumberParameter
  ? Extract<D["default"], string> extends never
    ? never
    : undefined
  : never;

/** The value a parameter has when it is not given; undefined where that follows from the model, or it has to be given. */
export function defaultOf(parameter: ParameterDefinition): ParameterValue | undefined {
  if (parameter.unit === "choice") return parameter.default;
  return typeof parameter.default === "number" ? parameter.default : undefined;
}

/** A value for pictures and examples; undefined where the default, or what follows from the model, serves. */
export function exampleOf(parameter: ParameterDefinition, rotarySize: number): ParameterValue | undefined {
  if (parameter.unit === "choice") return undefined;
  if (parameter.unit === "file") return { path: "example.json", content: parameter.example(rotarySize) };
  return parameter.example ?? (parameter.default === null ? Math.max(parameter.min ?? 1, 1) : undefined);
}

/** 4, 0.5 or 1e4; no hexadecimal number, no NaN. */
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * What a text stands for as this parameter; whether the value fits is for `checkParameter` to say. Flags may be written
 * as true and false. @throws LongctxError "method" when a number is asked for and the text is none
 */
export function readParameter(
  method: string,
  key: string,
  parameter: ParameterDefinition,
  text: string,
  readJson: JsonReader | undefined,
): ParameterValue {
  if (parameter.unit === "choice") return text.trim();
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

/** As a spec spells it, which has no + but between methods. */
export function writeParameter(value: ParameterValue): string {
  if (typeof value === "object") return value.path;
  return typeof value === "number" ? String(value).replace("e+", "e") : value;
}

/** @throws LongctxError "method" when the value is not one of those that the parameter takes */
export function checkParameter(
  method: string,
  key: string,
  parameter: ParameterDefinition,
  value: ParameterValue,
): void {
  if (!fits(parameter, value)) throw refusal(method, key, parameter, writeParameter(value));
}

function refusal(method: string, key: string, parameter: ParameterDefinition, written: string): LongctxError {
  return new LongctxError(
    "method",
    `${method}: ${key} is ${written}, but has to be ${wanted(parameter)} (${parameter.about}).`,
  );
}

function fits(parameter: ParameterDefinition, value: ParameterValue): boolean {
  if (parameter.unit === "file") return typeof value === "object";
  if (parameter.unit === "choice") return parameter.choices.some((choice) => choice === value);
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  if (parameter.unit === "flag") return value === 0 || value === 1;
  const { min = -Infinity, max = Infinity, integer = false } = parameter;
  return value >= min && value <= max && (!integer || Number.isInteger(value));
}

function wanted(parameter: ParameterDefinition): string {
  if (parameter.unit === "file") return "a JSON file";
  if (parameter.unit === "choice") return listed(parameter.choices);
  if (parameter.unit === "flag") return "0 or 1";
  const { min, max, integer = false } = parameter;
  const bounds = [min === undefined ? "" : `of at least ${min}`, max === undefined ? "" : `of at most ${max}`];
  return `a ${integer ? "whole " : ""}number ${bounds.filter((bound) => bound !== "").join(" and ")}`.trimEnd();
}
