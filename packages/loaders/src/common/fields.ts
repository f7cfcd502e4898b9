import { LongctxError } from "@longctx/core";
import { shown } from "./message.ts";

/**
 * The largest size that a description may state; decoders' sizes are far below, and larger ones overflow 32-bit
 * integers.
 */
const MAX_COUNT = 2 ** 31 - 1;

export interface CountOptions {
  readonly min?: number;
  readonly max?: number;
}

/**
 * A model's description, read field by field; an error names the file, the field, its value and the values possible.
 */
export class Fields {
  readonly place: string;
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(place: string, values: Readonly<Record<string, unknown>>) {
    this.place = place;
    this.#values = values;
  }

  /** Whether the description has the field, also with the value null. */
  has(name: string): boolean {
    return Object.hasOwn(this.#values, name);
  }

  /** The field's value, unchecked; undefined when the field is missing or null. */
  get(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? (this.#values[name] ?? undefined) : undefined;
  }

  fail(name: string, wanted: string): never {
    throw new LongctxError(
      "config",
      `${this.place}: ${name} is ${shown(this.get(name), 80)}, but has to be ${wanted}.`,
    );
  }

  count(name: string, fallback?: number, options: CountOptions = {}): number {
    const value = this.get(name) ?? fallback;
    const { min = 1, max = MAX_COUNT } = options;
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
      return this.fail(name, `a whole number from ${min} to ${max}`);
    return value;
  }

  optionalCount(name: string, options?: CountOptions): number | undefined {
    return this.get(name) === undefined ? undefined : this.count(name, undefined, options);
  }

  positive(name: string, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0)
      return this.fail(name, "a finite number above 0");
    return value;
  }

  optionalPositive(name: string): number | undefined {
    return this.get(name) === undefined ? undefined : this.positive(name);
  }

  /** The RoPE base b of θ_i = b^(−2i/d), where the field is written; b has to be above 1, so that θ_i falls with i. */
  ropeBase(name: string): number | undefined {
    const base = this.get(name);
    if (base === undefined || (typeof base === "number" && base > 1 && base < Infinity)) return base;
    return this.fail(name, "a finite number above 1");
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.get(name) ?? fallback;
    return typeof value === "boolean" ? value : this.fail(name, "true or false");
  }

  optionalText(name: string): string | undefined {
    const value = this.get(name);
    return value === undefined || typeof value === "string" ? value : this.fail(name, "a text");
  }

  /** Divisors of the rotary frequencies: `length` finite numbers above 0. */
  divisors(name: string, length: number): readonly number[] {
    const value = this.get(name);
    const wanted = `a list of ${length} finite numbers above 0, one for each rotated pair`;
    if (!Array.isArray(value)) return this.fail(name, wanted);
    if (
      value.length !== length ||
      !value.every((item) => typeof item === "number" && Number.isFinite(item) && item > 0)
    )
      return this.fail(name, wanted);
    return value as number[];
  }

  /** The fields of an object inside this description. */
  nested(name: string): Fields | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    if (typeof value !== "object" || Array.isArray(value)) return this.fail(name, "an object");
    return new Fields(`${this.place}: ${name}`, value as Record<string, unknown>);
  }

  names(): string[] {
    return Object.keys(this.#values);
  }
}
