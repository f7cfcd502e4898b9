/*
 * One of the two checkouts that `bench two-trees` compares, as a process of its own:
 *
 *     tsx side.ts CHECKOUT MODEL PRECISION TEXT
 *
 * It loads that checkout's `longctx`, reads a line of JSON a command and answers each with a line of JSON.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import type * as Longctx from "longctx";
import { median, stepTimes } from "../timing.ts";

export type Command =
  | { readonly act: "open"; readonly spec: string; readonly capacity: number }
  | { readonly act: "read"; readonly from: number; readonly to: number; readonly length: number }
  | { readonly act: "decode"; readonly count: number };

/** Milliseconds: of all tokens read, or the median of a step; 0 for `open`. */
export interface Answer {
  readonly time: number;
}

const [checkout, modelFile, precision, text] = process.argv.slice(2);
const { load, parseMethod } = (await import(resolve(checkout, "packages/longctx/src/index.ts"))) as typeof Longctx;
const model = await load(modelFile, { device: "cpu", precision: precision as Longctx.Precision });
const ids = model.tokenizer!.encode(readFileSync(text, "utf8").slice(0, 200_000));
let session: Longctx.Session | null = null;

async function answer(command: Command): Promise<Answer> {
  if (command.act === "open") {
    session?.dispose();
    session = model.session({ method: parseMethod(command.spec), capacity: command.capacity });
    return { time: 0 };
  }
  if (command.act === "decode") return { time: median(await stepTimes(session!, command.count)) };
  const begin = performance.now();
  await session!.prefill(ids.slice(command.from, command.to), { length: command.length });
  return { time: performance.now() - begin };
}

const say = (said: Answer): boolean => process.stdout.write(`${JSON.stringify(said)}\n`);
say({ time: 0 }); // loaded
for await (const line of createInterface({ input: process.stdin })) say(await answer(JSON.parse(line) as Command));
await model.dispose();
