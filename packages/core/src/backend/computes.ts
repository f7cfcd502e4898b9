import { LongctxError, listed } from "../common/errors.ts";
import { ACTIVATIONS, ROPE_TYPES, type ModelConfig } from "../model/config.ts";

/** The values of one config field that a backend can compute, and their description for error messages. */
export interface Accepted {
  readonly values: string;
  accepts(value: unknown): boolean;
}

/** What a backend can compute of a record: the compiler demands an entry for every field, optional fields included. */
export type Fields<Record_> = { readonly [Name in keyof Required<Record_>]: Accepted | Nested };

/** A config field that is itself a record, with what a backend can compute of each of its fields. */
export interface Nested {
  readonly fields: Readonly<Record<string, Accepted | Nested>>;
  /** Whether the whole record may be missing. */
  readonly optional: boolean;
}

/** What a backend can compute of a `ModelConfig`; a model with any other value is refused when it is opened. */
export type Computes = Fields<ModelConfig>;

/** Makes the description of a config field that is a record, from what is accepted for the record's fields. */
export function nested<Record_>(fields: Fields<Record_>): Nested {
  return { fields, optional: false };
}

/** Makes a check that accepts a missing field as well as the values that `each` accepts. */
export function optional<Each extends Accepted | Nested>(each: Each): Each {
  if ("fields" in each) return { ...each, optional: true };
  const inner: Accepted = each;
  return { ...each, values: `${inner.values}, or nothing`, accepts: (value) => value === undefined || inner.accepts(value) }; // prettier-ignore
}

/** Makes a check that accepts the given values only. */
export function oneOf(...values: readonly (string | number | boolean | null)[]): Accepted {
  return { values: listed(values.map((value) => JSON.stringify(value))), accepts: (value) => values.includes(value as string) }; // prettier-ignore
}

/** Accepts only a missing field. */
export const ABSENT: Accepted = { values: "nothing", accepts: (value) => value === undefined };
export const FLAG: Accepted = { values: "true or false", accepts: (value) => typeof value === "boolean" };
export const TEXT: Accepted = { values: "a text", accepts: (value) => typeof value === "string" };
export const COUNT: Accepted = {
  values: "a whole number of at least 1",
  accepts: (value) => Number.isSafeInteger(value) && (value as number) >= 1,
};
export const POSITIVE: Accepted = {
  values: "a number above 0",
  accepts: (value) => typeof value === "number" && value > 0 && Number.isFinite(value),
};
export const NUMBER: Accepted = { values: "a number", accepts: (value) => typeof value === "number" && Number.isFinite(value) }; // prettier-ignore
const TOKEN: Accepted = {
  values: "a token id or null",
  accepts: (value) => value === null || (Number.isSafeInteger(value) && (value as number) >= 0),
};

/** Makes a check that accepts a list if `each` accepts all of its elements. */
export function listOf(each: Accepted): Accepted {
  return { values: `a list of which each is ${each.values}`, accepts: (value) => Array.isArray(value) && value.every((one) => each.accepts(one)) }; // prettier-ignore
}

/** What backends compute of a RoPE config: all that `checkpointFrequencies` makes frequency tables of. */
const ROPE = nested<ModelConfig["rope"]>({
  type: oneOf(...ROPE_TYPES),
  base: POSITIVE,
  rotarySize: COUNT,
  factor: optional(POSITIVE),
  originalMaxPositions: optional(COUNT),
  attentionFactor: optional(POSITIVE),
  betaFast: optional(NUMBER),
  betaSlow: optional(NUMBER),
  mscale: optional(NUMBER),
  mscaleAllDim: optional(NUMBER),
  truncate: optional(FLAG),
  lowFreqFactor: optional(POSITIVE),
  highFreqFactor: optional(POSITIVE),
  shortFactors: optional(listOf(POSITIVE)),
  longFactors: optional(listOf(POSITIVE)),
  frequencyDivisors: optional(listOf(POSITIVE)),
});

/**
 * What every backend accepts for the fields that only give sizes and numbers; a backend adds the other fields itself.
 */
export const DESCRIPTION = {
  modelType: TEXT,
  vocabSize: COUNT,
  hiddenSize: COUNT,
  layerCount: COUNT,
  queryHeads: COUNT,
  keyHeads: COUNT,
  headSize: COUNT,
  feedForwardSize: COUNT,
  rope: ROPE,
  bias: nested<ModelConfig["bias"]>({ query: FLAG, key: FLAG, value: FLAG, output: FLAG, feedForward: FLAG }),
  queryKeyNorm: FLAG,
  tiedEmbedding: FLAG,
  slidingWindows: listOf({ values: "a number of tokens or null", accepts: (value) => value === null || COUNT.accepts(value) }), // prettier-ignore
  maxPositions: COUNT,
  trainedWindow: COUNT,
  specialTokens: nested<ModelConfig["specialTokens"]>({ bos: TOKEN, eos: listOf(TOKEN), pad: TOKEN }),
} as const;

export const EXPERTS = nested<NonNullable<ModelConfig["experts"]>>({
  count: COUNT,
  perToken: COUNT,
  feedForwardSize: COUNT,
  renormalise: FLAG,
});

export const RMS_NORM = nested<ModelConfig["norm"]>({ kind: oneOf("rms"), epsilon: POSITIVE });
export const ANY_ACTIVATION = oneOf(...ACTIVATIONS);

/**
 * Refuses a model with a field or a value that the backend does not list, and names both.
 * @throws LongctxError "config"
 */
export function checkComputes(device: string, computes: Computes, config: ModelConfig, others: string): void {
  checkFields(computes, config, "", (field, value, values) => {
    // A declared field that this device leaves out is one that other devices compute.
    const elsewhere = others !== "" && (computes as Nested["fields"])[field] === ABSENT;
    throw new LongctxError(
      "config",
      `The model has ${field} ${described(value)}, which the device ${device} does not compute: it takes ${values}${elsewhere ? `; use the device ${others}` : ""}.`,
    );
  });
}

type Refuse = (field: string, value: unknown, values: string) => never;

function checkFields(fields: Nested["fields"], record: object, at: string, refuse: Refuse): void {
  for (const name of new Set([...Object.keys(fields), ...Object.keys(record)])) {
    const value: unknown = (record as Readonly<Record<string, unknown>>)[name];
    const entry = Object.hasOwn(fields, name) ? fields[name] : ABSENT;
    if ("accepts" in entry) {
      if (!entry.accepts(value)) refuse(`${at}${name}`, value, entry.values);
    } else if (typeof value === "object" && value !== null) checkFields(entry.fields, value, `${at}${name}.`, refuse);
    else if (value !== undefined || !entry.optional) refuse(`${at}${name}`, value, "a record");
  }
}

function described(value: unknown): string {
  const text = value === undefined ? "missing" : (JSON.stringify(value) ?? typeof value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
