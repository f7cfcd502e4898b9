import { LongctxError, listed } from "../common/errors.ts";
import type { Axis, Method } from "./method.ts";
import {
  checkParameter,
  defaultOf,
  exampleOf,
  readParameter,
  writeParameter,
  type CompleteValues,
  type JsonReader,
  type ParameterDefinition,
  type ParameterValue,
  type ParameterValues,
} from "./parameters.ts";

/** A method's row: what the command line, the tests, the benchmark and docs/methods.md read. */
export interface MethodDefinition<
  P extends Readonly<Record<string, ParameterDefinition>> = Readonly<Record<string, ParameterDefinition>>,
> {
  readonly name: string;
  /** Every axis that the method can change. */
  readonly axes: readonly Axis[];
  /** Those of `axes` that only some parameters change, with which: "logn=1". Otherwise another method may have them. */
  readonly conditionalAxes?: Readonly<Partial<Record<Axis, string>>>;
  readonly summary: string;
  /** The formula, in the letters of docs/methods.md. */
  readonly definition: string;
  readonly paper: string;
  /** What the code does differently from the paper or from well-known implementations; "none" is an answer. */
  readonly deviations: string;
  readonly parameters: P;
  /** Called with checked values, defaults filled in; `spec` is canonical. @throws LongctxError "method" where values do not go together */
  create(values: CompleteValues<P>, spec: string): Method;
}

/** The row itself, with the literal types of its parameters, from which `create` and the factories know their values. */
export function defineMethod<const P extends Readonly<Record<string, ParameterDefinition>>>(
  definition: MethodDefinition<P>,
): MethodDefinition<P> {
  return definition;
}

/** The methods a program offers, by name. */
export class MethodRegistry {
  readonly #rows = new Map<string, MethodDefinition>();
  readonly #readJson: JsonReader | undefined;

  /** `readJson` reads the files that specs name; without it they are refused, as there are none in a browser. */
  constructor(rows: Iterable<MethodDefinition>, readJson?: JsonReader) {
    this.#readJson = readJson;
    for (const row of rows) {
      if (this.#rows.has(row.name)) throw new LongctxError("method", `Two methods are called ${row.name}.`);
      this.#rows.set(row.name, row);
    }
  }

  get rows(): readonly MethodDefinition[] {
    return [...this.#rows.values()];
  }

  /** `yarn:factor=4+streaming:sinks=4,window=1020` → the methods, in the order written. @throws LongctxError "method", "file" */
  parse(spec: string): Method[] {
    return spec.split("+").map((part) => this.#parseOne(part.trim(), spec));
  }

  #parseOne(part: string, spec: string): Method {
    const colon = part.indexOf(":");
    const name = (colon < 0 ? part : part.slice(0, colon)).trim();
    const row = this.#rows.get(name);
    if (!row)
      throw new LongctxError(
        "method",
        `There is no method "${name}" in "${spec}"; there is ${listed(this.#rows.keys())}.`,
      );
    const given = new Map<string, ParameterValue>();
    for (const pair of colon < 0 ? [] : part.slice(colon + 1).split(",")) {
      const [before, text, ...rest] = pair.split("=");
      const key = before.trim();
      const takes = `it takes ${Object.keys(row.parameters).join(", ") || "none"}`;
      if (key === "")
        throw new LongctxError(
          "method",
          `A parameter is missing in "${part}": write KEY=VALUE after ":" and between commas, or leave the sign out; ${takes}.`,
        );
      if (!Object.hasOwn(row.parameters, key))
        throw new LongctxError("method", `${name} has no parameter "${key}" ("${spec}"); ${takes}.`);
      if (text === undefined || rest.length > 0 || text.trim() === "")
        throw new LongctxError("method", `Write ${name}'s parameter as ${key}=VALUE, not "${pair}".`);
      if (given.has(key)) throw new LongctxError("method", `${name} is given ${key} twice in "${spec}".`);
      given.set(key, readParameter(name, key, row.parameters[key], text, this.#readJson));
    }
    return instantiate(row, Object.fromEntries(given));
  }
}

/** A method from its row and parameters, checked; what the exported factories (`yarn({ factor: 4 })`) call. */
export function instantiate<P extends Readonly<Record<string, ParameterDefinition>>>(
  row: MethodDefinition<P>,
  given: Partial<ParameterValues<P>>,
): Method {
  const values: Record<string, ParameterValue> = {};
  const written: string[] = [];
  for (const [key, parameter] of Object.entries(row.parameters)) {
    const value = (given as Readonly<Record<string, ParameterValue | undefined>>)[key];
    if (value === undefined && parameter.default === null) {
      throw new LongctxError(
        "method",
        `${row.name} needs ${key} (${parameter.about}): write ${row.name}:${key}=VALUE.`,
      );
    }
    if (value !== undefined) {
      checkParameter(row.name, key, parameter, value);
      written.push(`${key}=${writeParameter(value)}`);
      values[key] = value;
    } else {
      const fallback = defaultOf(parameter);
      if (fallback !== undefined) values[key] = fallback;
    }
  }
  return row.create(
    values as CompleteValues<P>, // what is missing here is missing above
    written.length > 0 ? `${row.name}:${written.join(",")}` : row.name,
  );
}

/**
 * A row's method with example values for a trained window of 4096 tokens and heads of `rotarySize` rotated channels (64
 * unless given), for pictures and for what holds at any value.
 */
export function exampleMethod(row: MethodDefinition, rotarySize = 64): Method {
  const examples = Object.entries(row.parameters).map(([key, parameter]) => [key, exampleOf(parameter, rotarySize)]);
  return instantiate(row, Object.fromEntries(examples));
}
