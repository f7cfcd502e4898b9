import { readFileSync } from "node:fs";
import { LongctxError, listed } from "@longctx/core";

/** Four novels of Jane Austen, in the public domain; about 0.56 million tokens together. */
export const NOVELS = ["northangerabbey", "persuasion", "prideprejudice", "sensesensibility"] as const;
export type Novel = (typeof NOVELS)[number];

/** A novel's text as it was printed, title page and all. @throws LongctxError "argument" for another name */
export function novelText(novel: Novel): string {
  if (!NOVELS.includes(novel))
    throw new LongctxError("argument", `There is no novel "${String(novel)}"; there is ${listed(NOVELS)}.`);
  return readFileSync(new URL(`../texts/${novel}.txt`, import.meta.url), "utf8");
}
