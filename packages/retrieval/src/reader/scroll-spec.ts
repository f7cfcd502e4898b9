import { LongctxError, listed, type JsonReader } from "@longctx/core";
import { readHeads, type Head, type HeadsFile } from "./heads-file.ts";
import type { ResolvedScroll, ScrollSizes } from "./scroll-options.ts";

const NAME = "scroll";
const SIZES = ["chunk", "phrase", "budget", "answer"] as const;
/** 14.3/15.6 is head 3 of layer 14 and head 6 of layer 15. */
const HEADS = /^\d+\.\d+(\/\d+\.\d+)*$/;

/** What a spec says of a reader; the reader checks sizes and heads against a model. */
export type ScrollSpec = ScrollSizes & { readonly heads?: readonly Head[] | HeadsFile };

/**
 * Reads a reader's spec: `scroll`, or `scroll:chunk=1024,budget=256,heads=14.3/15.6`; `heads=FILE.json` names a heads
 * file, which `readJson` reads.
 * @throws LongctxError "argument" for another name, parameter or value, "file" where the heads file cannot be read
 */
export function parseScroll(spec: string, readJson?: JsonReader): ScrollSpec {
  const colon = spec.indexOf(":");
  const name = (colon < 0 ? spec : spec.slice(0, colon)).trim();
  if (name !== NAME) throw refused(`There is no reader "${name}" in "${spec}"; there is ${NAME}`);
  const values: Partial<Record<string, number | readonly Head[] | HeadsFile>> = {};
  for (const pair of colon < 0 ? [] : spec.slice(colon + 1).split(",")) {
    const [key, value, ...rest] = pair.split("=").map((part) => part.trim());
    if (!value || rest.length > 0) throw refused(`Write ${NAME}'s parameter as KEY=VALUE, not "${pair}" ("${spec}")`);
    if (key !== "heads" && !SIZES.some((size) => size === key))
      throw refused(`${NAME} has no parameter "${key}" ("${spec}"); it takes ${listed([...SIZES, "heads"])}`);
    if (Object.hasOwn(values, key)) throw refused(`${NAME} is given ${key} twice in "${spec}"`);
    values[key] = key === "heads" ? headsOf(value, readJson) : sizeOf(key, value);
  }
  return values;
}

/** Writes a reader's sizes and heads as the spec that makes it. */
export function scrollSpec({ sizes, heads }: ResolvedScroll): string {
  const written = SIZES.map((name) => `${name}=${sizes[name]}`);
  return `${NAME}:${written.join(",")},heads=${heads.map((head) => head.join(".")).join("/")}`;
}

function sizeOf(key: string, value: string): number {
  if (!/^\d+$/.test(value)) throw refused(`${NAME}: ${key} is ${value}; give a whole number of tokens of at least 1`);
  return Number(value);
}

function headsOf(value: string, readJson: JsonReader | undefined): readonly Head[] | HeadsFile {
  if (HEADS.test(value)) return value.split("/").map((head) => head.split(".").map(Number) as [number, number]);
  if (!readJson)
    throw refused(`${NAME}: heads is ${value}, but nothing here reads files; write layers and heads as 14.3/15.6`);
  return readHeads(readJson(value), value);
}

function refused(why: string): LongctxError {
  return new LongctxError("argument", `${why}.`);
}
