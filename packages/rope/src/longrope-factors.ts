import { LongctxError, type JsonFile } from "@longctx/core";

/** LongRoPE's two lists of divisors of the frequencies θ_i, of the same length; every divisor is finite and above 0. */
export interface LongropeFactors {
  readonly path: string;
  readonly short: readonly number[];
  readonly long: readonly number[];
}

/** The names under which a file may hold each list: the name in Hugging Face's `rope_scaling`, or a short one. */
const LIST_NAMES = { short: ["short_factor", "short"], long: ["long_factor", "long"] } as const;

/**
 * Reads the two lists of divisors from a JSON file's content.
 * @throws LongctxError "file" that names file, list and entry
 */
export function readFactors({ path, content }: JsonFile): LongropeFactors {
  if (typeof content !== "object" || content === null || Array.isArray(content))
    throw refusal(path, `has to hold an object with ${LIST_NAMES.short[0]} and ${LIST_NAMES.long[0]}`);
  const lists = content as Readonly<Record<string, unknown>>;
  const [short, long] = [listOf(path, lists, LIST_NAMES.short), listOf(path, lists, LIST_NAMES.long)];
  if (short.length !== long.length)
    throw refusal(
      path,
      `has ${short.length} short factors and ${long.length} long ones; give one of each for each pair`,
    );
  return { path, short, long };
}

function listOf(path: string, lists: Readonly<Record<string, unknown>>, names: readonly string[]): readonly number[] {
  const given = names.filter((name) => Object.hasOwn(lists, name));
  if (given.length !== 1)
    throw refusal(
      path,
      given.length === 0 ? `lacks the list ${names[0]}` : `has ${given.join(" and ")}; leave one out`,
    );
  const [name] = given;
  const list = lists[name];
  if (!Array.isArray(list) || list.length === 0)
    throw refusal(path, `${name} is ${shown(list)}, but has to be a list of numbers above 0, one for each rotary pair`);
  const wrong = list.findIndex((item) => typeof item !== "number" || !Number.isFinite(item) || item <= 0);
  if (wrong >= 0)
    throw refusal(path, `${name}[${wrong}] is ${shown(list[wrong])}, but has to be a finite number above 0`);
  return [...(list as number[])];
}

function refusal(path: string, what: string): LongctxError {
  return new LongctxError("file", `longrope: ${path}: ${what}.`);
}

function shown(value: unknown): string {
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}
