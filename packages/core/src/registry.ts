import { LongctxError, listed } from "./errors.ts";
import type { Axis, Method } from "./method.ts";

/** One parameter of a method as the command line, the docs and the checks see it. */
export interface ParameterDefinition {
  readonly about: string;
  readonly unit: "tokens" | "ratio" | "flag" | "turns" | "number";
  /** null: it has to be given. A text says how it follows from the model ("0.1·ln(factor)+1"). */
  readonly default: number | string | null;
  /** For pictures and examples, at a trained window of 4096 tokens; what has a default needs none. */
  readonly example?: number;
  readonly min?: number;
  readonly max?: number;
  readonly integer?: boolean;
}

export type ParameterValues<P> = { [Name in keyof P]: number };

/** A method's row: what the command line, the tests, the benchmark and docs/methods.md read. */
export interface MethodDefinition<
  P extends Readonly<Record<string, ParameterDefinition>> = Readonly<Record<string, ParameterDefinition>>,
> {
  readonly name: string;
  readonly axes: readonly Axis[];
  readonly summary: string;
  /** The formula, in the letters of docs/methods.md. */
  readonly definition?: string;
  readonly paper: string;
  /** What the code does differently from the paper or from well-known implementations; "none" is an answer. */
  readonly deviations: string;
  readonly parameters: P;
  /** Only parameters that were given or have a numeric default are in `values`; `spec` is canonical. */
  create(values: Partial<ParameterValues<P>>, spec: string): Method;
}

/** Types a row and checks nothing away. */
export function defineMethod<const P extends Readonly<Record<string, ParameterDefinition>>>(
  definition: MethodDefinition<P>,
): MethodDefinition<P> {
  return definition;
}

/** The methods a program offers, by name. */
export class MethodRegistry {
  readonly #rows = new Map<string, MethodDefinition>();

  constructor(rows: Iterable<MethodDefinition>) {
    for (const row of rows) {
      if (this.#rows.has(row.name)) throw new LongctxError("method", `Two methods are called ${row.name}.`);
      this.#rows.set(row.name, row);
    }
  }

  get rows(): readonly MethodDefinition[] {
    return [...this.#rows.values()];
  }

  /** `yarn:factor=4+streaming:sinks=4,window=1020` → the methods, in the order written. @throws LongctxError "method" */
  parse(spec: string): Method[] {
    return spec.split("+").map((part) => this.#parseOne(part.trim(), spec));
  }

  #parseOne(part: string, spec: string): Method {
    const colon = part.indexOf(":");
    const name = colon < 0 ? part : part.slice(0, colon);
    const row = this.#rows.get(name);
    if (!row)
      throw new LongctxError(
        "method",
        `There is no method "${name}" in "${spec}"; there is ${listed(this.#rows.keys())}.`,
      );
    const given = new Map<string, number>();
    for (const pair of colon < 0 ? [] : part.slice(colon + 1).split(",")) {
      const [key = "", text, ...rest] = pair.split("=");
      const names = Object.keys(row.parameters);
      if (!Object.hasOwn(row.parameters, key)) {
        throw new LongctxError(
          "method",
          `${name} has no parameter "${key}" ("${spec}"); ${names.length > 0 ? `it takes ${names.join(", ")}` : "it takes none"}.`,
        );
      }
      if (text === undefined || rest.length > 0 || text.trim() === "")
        throw new LongctxError("method", `Write ${name}'s parameter as ${key}=VALUE, not "${pair}".`);
      if (given.has(key)) throw new LongctxError("method", `${name} is given ${key} twice in "${spec}".`);
      given.set(key, text === "true" ? 1 : text === "false" ? 0 : Number(text));
    }
    return instantiate(row, Object.fromEntries(given));
  }
}

/** A method from its row and parameters, checked; what the exported factories (`yarn({ factor: 4 })`) call. */
export function instantiate<P extends Readonly<Record<string, ParameterDefinition>>>(
  row: MethodDefinition<P>,
  given: Partial<ParameterValues<P>>,
): Method {
  const values: Record<string, number> = {};
  const written: string[] = [];
  for (const [key, parameter] of Object.entries(row.parameters)) {
    const value = (given as Record<string, number | undefined>)[key];
    if (value === undefined && parameter.default === null) {
      throw new LongctxError(
        "method",
        `${row.name} needs ${key} (${parameter.about}): write ${row.name}:${key}=VALUE.`,
      );
    }
    if (value !== undefined) {
      checkValue(row.name, key, parameter, value);
      written.push(`${key}=${value}`);
      values[key] = value;
    } else if (typeof parameter.default === "number") {
      values[key] = parameter.default;
    }
  }
  return row.create(
    values as Partial<ParameterValues<P>>,
    written.length > 0 ? `${row.name}:${written.join(",")}` : row.name,
  );
}

function checkValue(method: string, key: string, parameter: ParameterDefinition, value: number): void {
  const { min = -Infinity, max = Infinity, integer = false, unit } = parameter;
  const wanted =
    unit === "flag"
      ? "0 or 1"
      : `a ${integer ? "whole " : ""}number${min > -Infinity ? ` of at least ${min}` : ""}${max < Infinity ? ` and at most ${max}` : ""}`;
  const fits =
    unit === "flag"
      ? value === 0 || value === 1
      : Number.isFinite(value) && value >= min && value <= max && (!integer || Number.isInteger(value));
  if (!fits)
    throw new LongctxError("method", `${method}: ${key} is ${value}, but has to be ${wanted} (${parameter.about}).`);
}
