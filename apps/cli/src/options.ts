import { Option, type Command } from "commander";
import { DEVICES, LongctxError, listed, PRECISIONS, type Device, type Precision } from "longctx";

export interface NumberLimits {
  readonly min?: number;
  readonly max?: number;
  /** Numbers have to be larger than `min`, not equal to it. */
  readonly above?: boolean;
  readonly integer?: boolean;
}

/** An option with a number; an empty text, NaN and what lies outside the limits are refused with the option's name. */
export function numberOption(flags: string, description: string, limits: NumberLimits = {}): Option {
  const option = new Option(flags, description);
  return option.argParser((text: string) => parseNumber(option.long ?? flags, text, limits));
}

/** An option with a count of tokens: 4096 or 4k. */
export function tokensOption(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.argParser((text: string) => parseTokens(option.long ?? flags, text));
}

export function parseNumber(name: string, text: string, limits: NumberLimits): number {
  const { min = -Infinity, max = Infinity, above = false, integer = false } = limits;
  const value = text.trim() === "" ? NaN : Number(text);
  const fits =
    Number.isFinite(value) &&
    (above ? value > min : value >= min) &&
    value <= max &&
    (!integer || Number.isSafeInteger(value));
  if (fits) return value;
  const bounds = [
    min > -Infinity ? `${above ? "above" : "of at least"} ${min}` : "",
    max < Infinity ? `of at most ${max}` : "",
  ].filter(Boolean);
  throw new LongctxError(
    "argument",
    `${name} is "${text}", but has to be a ${integer ? "whole " : ""}number ${bounds.join(" and ")}`.trimEnd() + ".",
  );
}

/** 4096, 4k (4096) or 1m (1048576). */
export function parseTokens(name: string, text: string): number {
  const [, digits = "", unit = ""] = /^\s*(\d+(?:\.\d+)?)([km]?)\s*$/i.exec(text) ?? [];
  const value =
    digits === "" ? NaN : Number(digits) * { "": 1, k: 1024, m: 1024 ** 2 }[unit.toLowerCase() as "" | "k" | "m"];
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new LongctxError(
    "argument",
    `${name} is "${text}", but has to be a whole number of tokens, at least 1, such as 4096 or 4k.`,
  );
}

/** A device by its name. @throws LongctxError "device" */
export function parseDevice(name: string): Device {
  const device = DEVICES.find((known) => known === name);
  if (device) return device;
  throw new LongctxError("device", `There is no device "${name}"; use ${listed(DEVICES)}.`);
}

export function parsePrecision(name: string): Precision {
  const precision = PRECISIONS.find((known) => known === name);
  if (precision) return precision;
  throw new LongctxError("argument", `--precision is "${name}", but has to be ${listed(PRECISIONS)}.`);
}

/** How a model reads a text; the same options for every command that runs one. */
export interface ReadingOptions {
  readonly method?: string;
  readonly device: Device;
  readonly precision: Precision;
  readonly chunk?: number;
  readonly trainedWindow?: number;
}

export function addReadingOptions(command: Command): Command {
  return addModelOptions(command).addOption(
    new Option(
      "--precision <name>",
      "exact: float32 results; fast: int8 products on the cpu, keys, values and long products of 16 bits on a GPU",
    )
      .default("exact")
      .argParser(parsePrecision),
  );
}

/** The same without the precision, for a command that compares several. */
export function addModelOptions(command: Command): Command {
  return command
    .option("--method <spec>", "methods to read under, e.g. yarn:factor=4; see `longctx methods`")
    .addOption(new Option("--device <name>", listed(DEVICES)).default("auto").argParser(parseDevice))
    .addOption(tokensOption("--chunk <tokens>", "tokens of the text computed at once; results do not depend on it"))
    .addOption(tokensOption("--trained-window <tokens>", "T of the methods, in place of what the checkpoint says"));
}
