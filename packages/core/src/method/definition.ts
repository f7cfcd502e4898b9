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

/** An axis that a method changes: always, or only under parameter values for which `claims` returns true. */
export type AxisClaim<P extends ParameterTable = ParameterTable> =
  | Axis
  | {
      readonly axis: Axis;
      /**
       * The condition, in words for people ("logn=1"), under which the method changes the axis (frequencies, distance, ...); where it is false, another method of a composition may change the axis.
       */
      readonly when: string;
      claims(values: CompleteValues<P>): boolean;
    };

/**
 * The definition of a method: its name, parameters, documentation and factory, as read by the command line, the tests,
 * the benchmark and docs/methods.md.
 */
export interface MethodDefinition<P extends ParameterTable = ParameterTable> {
  readonly name: string;
  /** Every axis that the method can change, some of them only under certain parameter values. */
  readonly axes: readonly AxisClaim<P>[];
  readonly summary: string;
  /** The method's formula, in the letters of docs/methods.md. */
  readonly definition: string;
  readonly paper: string;
  /** How the code differs from the paper or from well-known implementations; "none" where it does not. */
  readonly deviations: string;
  readonly parameters: P;
  /**
   * Makes the method's functions from parameter values, each of which has been checked by itself; `instantiate` adds
   * spec and axes.
   * @throws LongctxError "method" where the values contradict each other
   */
  create(values: CompleteValues<P>): Omit<Method, "spec" | "axes">;
}

/** A method's definition that is also the factory of the method: `yarn({ factor: 4 })`. */
export type DefinedMethod<P extends ParameterTable = ParameterTable, Options = GivenValues<P>> = MethodDefinition<P> &
  (Partial<Options> extends Options ? (options?: Options) => Method : (options: Options) => Method);

/**
 * Defines a method under one name: the result is a function that makes the method from its parameters, and that carries
 * the fields of `row`, so that a MethodRegistry takes it too. Parameters without a default are required. With `valuesOf`
 * the function takes other options, which `valuesOf` converts to parameters: LongRoPE takes lists where its spec names
 * a file.
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
  // Object.assign would throw here, because a function's own property `name` is read-only and can only be redefined.
  return Object.defineProperties(make, Object.getOwnPropertyDescriptors(row)) as DefinedMethod;
}

/**
 * Makes a method from its definition and from parameter values that are known only at run time, such as those of a
 * spec.
 * @throws LongctxError "method" where a value is missing or impossible
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

/** Returns the axis that a claim names, without the condition of the claim. */
export function axisOf(claim: AxisClaim): Axis {
  return typeof claim === "string" ? claim : claim.axis;
}

/**
 * Makes a method with the example values of its parameters, for pictures and for questions that no value affects. The
 * examples suit a trained window of 4096 tokens and heads of `rotarySize` rotated channels (64 unless given).
 */
export function exampleMethod(row: MethodDefinition, rotarySize = 64): Method {
  const examples = Object.entries(row.parameters).map(([key, parameter]) => [key, exampleOf(parameter, rotarySize)]);
  return instantiate(row, Object.fromEntries(examples) as GivenValues<ParameterTable>);
}
