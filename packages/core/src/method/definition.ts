import { LongctxError } from "../common/errors.ts";
import type { Axis, Method } from "./method.ts";
import {
  checkParameter,
  defaultOf,
  exampleOf,
  writeParameter,
  type CompleteValues,
  type GivenValues,
  type ParameterTable,
  type ParameterValue,
} from "./parameters.ts";

/** An axis that a method changes: always, or only with the parameter values for which `claims` is true. */
export type AxisClaim<P extends ParameterTable = ParameterTable> =
  | Axis
  | {
      readonly axis: Axis;
      /** The condition in words: "logn=1". With other values the axis is free for another method. */
      readonly when: string;
      claims(values: CompleteValues<P>): boolean;
    };

/** A method's row: what the command line, the tests, the benchmark and docs/methods.md read. */
export interface MethodDefinition<P extends ParameterTable = ParameterTable> {
  readonly name: string;
  /** Every axis that the method can change. */
  readonly axes: readonly AxisClaim<P>[];
  readonly summary: string;
  /** The formula, in the letters of docs/methods.md. */
  readonly definition: string;
  readonly paper: string;
  /** What the code does differently from the paper or from well-known implementations; "none" is an answer. */
  readonly deviations: string;
  readonly parameters: P;
  /**
   * What the method does with these values, as a plain object; its spec and its axes follow from the row. The values are
   * checked one by one, and defaults are filled in. @throws LongctxError "method" where values do not go together
   */
  create(values: CompleteValues<P>): Omit<Method, "spec" | "axes">;
}

/** A row that is called with parameter values to make its method: `yarn({ factor: 4 })`. */
export type DefinedMethod<P extends ParameterTable = ParameterTable, Options = GivenValues<P>> = MethodDefinition<P> &
  (Partial<Options> extends Options ? (options?: Options) => Method : (options: Options) => Method);

/**
 * A method under its one name: the row, for a MethodRegistry, and the function that makes the method. The function takes
 * the row's parameters; those whose default is null have to be given. `valuesOf` makes parameters of other options, for a
 * method that programs give lists where a spec gives a file.
 */
export function defineMethod<const P extends ParameterTable>(row: MethodDefinition<P>): DefinedMethod<P>;
export function defineMethod<const P extends ParameterTable, Options>(
  row: MethodDefinition<P>,
  valuesOf: (options: Options) => GivenValues<P>,
): DefinedMethod<P, Options>;
export function defineMethod(
  row: MethodDefinition,
  valuesOf: (options: GivenValues<ParameterTable>) => GivenValues<ParameterTable> = (options) => options,
): DefinedMethod {
  const make = (options: GivenValues<ParameterTable> = {}): Method => instantiate(row, valuesOf(options));
  // Object.assign would throw, because the name of a function can be redefined but not assigned.
  return Object.defineProperties(make, Object.getOwnPropertyDescriptors(row)) as DefinedMethod;
}

/** The method of a row whose values are known only at run time, as those of a spec are. @throws LongctxError "method" */
export function instantiate(row: MethodDefinition, given: GivenValues<ParameterTable>): Method {
  const values: Record<string, ParameterValue> = {};
  const written: string[] = [];
  for (const [key, parameter] of Object.entries(row.parameters)) {
    const value = given[key];
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
  const actions = row.create(values);
  const claimed = row.axes.filter((claim) => typeof claim === "string" || claim.claims(values));
  return {
    ...actions,
    spec: written.length > 0 ? `${row.name}:${written.join(",")}` : row.name,
    axes: claimed.map(axisOf),
  };
}

export function axisOf(claim: AxisClaim): Axis {
  return typeof claim === "string" ? claim : claim.axis;
}

/**
 * A row's method with example values for a trained window of 4096 tokens and heads of `rotarySize` rotated channels (64
 * unless given), for pictures and for what holds at any value.
 */
export function exampleMethod(row: MethodDefinition, rotarySize = 64): Method {
  const examples = Object.entries(row.parameters).map(([key, parameter]) => [key, exampleOf(parameter, rotarySize)]);
  return instantiate(row, Object.fromEntries(examples) as GivenValues<ParameterTable>);
}
