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

/** An axis that a method changes, either always or only with the parameter values for which `claims` is true. */
export type AxisClaim<P extends ParameterTable = ParameterTable> =
  | Axis
  | {
      readonly axis: Axis;
      /** The condition in words ("logn=1"); under other values another method may change the axis. */
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
  /** How the code differs from the paper or from well-known implementations; "none" where it does not. */
  readonly deviations: string;
  readonly parameters: P;
  /**
   * What the method does on its axes with these values, as a plain object; the caller adds the spec and the axes. Each
   * value has been checked by its parameter. @throws LongctxError "method" where values do not go together
   */
  create(values: CompleteValues<P>): Omit<Method, "spec" | "axes">;
}

/** A row that is also a function, which makes the method from parameter values: `yarn({ factor: 4 })`. */
export type DefinedMethod<P extends ParameterTable = ParameterTable, Options = GivenValues<P>> = MethodDefinition<P> &
  (Partial<Options> extends Options ? (options?: Options) => Method : (options: Options) => Method);

/**
 * Defines a method under one name: the row that is returned goes into a MethodRegistry, and calling it makes the
 * method. The call takes the row's parameters, of which those without a default are required. With `valuesOf` the call
 * takes other options, from which `valuesOf` makes the parameters: a program gives LongRoPE lists where a spec gives a
 * file.
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

/**
 * Makes the method of a row from values that are known only at run time, as those of a spec.
 * @throws LongctxError "method"
 */
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
 * Makes the method of a row with its example values, which suit a trained window of 4096 tokens and heads of
 * `rotarySize` rotated channels (64 unless given): for pictures, and for questions whose answer no value changes.
 */
export function exampleMethod(row: MethodDefinition, rotarySize = 64): Method {
  const examples = Object.entries(row.parameters).map(([key, parameter]) => [key, exampleOf(parameter, rotarySize)]);
  return instantiate(row, Object.fromEntries(examples) as GivenValues<ParameterTable>);
}
