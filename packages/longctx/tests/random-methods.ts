import * as fc from "fast-check";
import { compose, instantiate, LongctxError, type Composition, type MethodDefinition } from "@longctx/core";
import type { Method, ParameterDefinition, ParameterValue } from "@longctx/core";
import { methods } from "../src/methods.ts";

/** Small values, so that every method is at work in a text of some dozen tokens. */
function valueOf(parameter: ParameterDefinition, pairs: number): fc.Arbitrary<ParameterValue> {
  // An approximate index finds nearly the same tokens, on one device.
  if (parameter.unit === "choice") return fc.constantFrom(...parameter.choices.filter((choice) => choice !== "hnsw"));
  if (parameter.unit === "layers") return fc.constantFrom("all", [0], [1], [0, 1]);
  if (parameter.unit === "file") return factorsOf(pairs);
  const { unit, integer, min = 0, max = Infinity } = parameter;
  if (unit === "ratio") return fc.constantFrom(1, 1.5, 4, 16);
  if (unit === "flag") return fc.constantFrom(0, 1);
  if (unit === "turns") return fc.constantFrom(0.5, 1, 4, 32);
  if (unit === "radians") return fc.constantFrom(0.002, 0.02, 0.1, 0.5);
  if (integer) return fc.integer({ min, max: Math.min(max, unit === "tokens" ? 24 : 4) });
  return fc.constantFrom(...[0.5, 1, 1.5, 3].filter((value) => value >= min && value <= max));
}

/** The content of a file with divisors of frequencies, which is the only kind of file that a method needs. */
function factorsOf(pairs: number): fc.Arbitrary<ParameterValue> {
  const list = fc.array(fc.constantFrom(1, 1.25, 4, 30), { minLength: pairs, maxLength: pairs });
  return fc.record({ short: list, long: list }).map((content) => ({ path: JSON.stringify(content), content }));
}

/** A row with random parameters, or null where they do not go together. */
function methodOf(row: MethodDefinition, pairs: number): fc.Arbitrary<Method | null> {
  // A file that may be left out belongs to a model (`blocks:heads=`), so only files that have to be there are made up.
  const entries = Object.entries(row.parameters).filter(
    ([, parameter]) => parameter.unit !== "file" || parameter.default === null,
  );
  const needed = entries.filter(([, parameter]) => parameter.default === null).map(([name]) => name);
  return fc
    .record(Object.fromEntries(entries.map(([name, parameter]) => [name, valueOf(parameter, pairs)])), {
      requiredKeys: needed,
    })
    .map((values) => attempt(() => instantiate(row, values)));
}

export function attempt<Value>(make: () => Value): Value | null {
  try {
    return make();
  } catch (error) {
    if (error instanceof LongctxError && error.code === "method") return null;
    throw error;
  }
}

/** Any methods of the registry that go together, for a model of so many rotary pairs; new rows join by themselves. */
export function randomComposition(pairs: number): fc.Arbitrary<Composition> {
  return fc
    .shuffledSubarray([...methods.rows], { minLength: 1, maxLength: 6 })
    .chain((rows) => fc.tuple(...rows.map((row) => methodOf(row, pairs))))
    .map((drawn) => drawn.reduce((sum, method) => (method && attempt(() => compose(sum, method))) ?? sum, compose()));
}
