import { readFileSync } from "node:fs";
import { load, parseMethod, type LanguageModel, type Precision, type Session } from "longctx";
import { describeMachine, sourceRevision } from "./machine.ts";
import { table, writeBetweenMarkers } from "./peers/report.ts";
import { DOCUMENT, novelText, writeResult } from "./places.ts";
import { Progress } from "./progress.ts";

export interface StreamOptions {
  readonly model: string;
  readonly precision: Precision;
  readonly method: string;
  /** Tokens of the whole stream. */
  readonly length: number;
  readonly command: string;
}

const STEPS = 256;
/** Where steps are timed first. */
const EARLY = 2000;
const RECOMPUTATIONS = 3;

/** A stream through a cache of fixed size: are late steps as fast as early ones, and what would recomputing cost? */
export async function endlessStream({ model: path, precision, method, length, command }: StreamOptions): Promise<void> {
  const model = await load(path, { device: "cpu", precision });
  const ids = model.tokenizer!.encode(readFileSync(novelText(), "utf8"));
  const session = model.session({ method: parseMethod(method) });
  const progress = new Progress(length);
  const feed = async (to: number): Promise<void> => {
    while (session.length < to) {
      const from = session.length % ids.length;
      const part = ids.slice(from, from + Math.min(4096, to - session.length, ids.length - from));
      await session.prefill(part);
      progress.step(`${session.length} of ${length} tokens, cache ${(session.bytes / 1e6).toFixed(1)} MB`, part.length);
    }
  };
  await feed(EARLY);
  const early = { tokens: session.length, bytes: session.bytes, ...(await steps(session)) };
  await feed(length);
  const late = { tokens: session.length, bytes: session.bytes, ...(await steps(session)) };
  const again = await recomputation(model, ids, session.layout.capacity);
  session.dispose();
  await model.dispose();
  const report = `${table(
    ["after", `${STEPS} steps, ms each: median (mean)`, "cache"],
    [early, late].map(({ tokens, median, mean, bytes }) => [
      `${tokens} tokens`,
      `${median.toFixed(2)} (${mean.toFixed(2)})`,
      `${(bytes / 1e6).toFixed(1)} MB`,
    ]),
  )}\n\nLate steps take ${(late.median / early.median).toFixed(2)} times as long as early ones. Reading the last ${again.tokens} tokens again for every token, as sliding-window recomputation does, takes ${again.milliseconds.toFixed(0)} ms: ${(again.milliseconds / late.median).toFixed(0)} times as long.\n\n\`${method}\`, \`${precision}\`: \`${command}\``;
  process.stdout.write(`${report}\n`);
  writeResult("endless-stream", {
    benchmark: "endless-stream",
    version: 1,
    date: new Date().toISOString(),
    command,
    machine: describeMachine(),
    revision: sourceRevision(),
    method,
    early,
    late,
    recomputation: again,
  });
  writeBetweenMarkers(DOCUMENT, "endless-stream", report);
}

async function steps(session: Session): Promise<{ readonly median: number; readonly mean: number }> {
  const times: number[] = [];
  let last = performance.now();
  for await (const token of session.generate({ maxNew: STEPS, stopTokens: [] })) {
    void token;
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  return { median: times.sort((a, b) => a - b)[times.length >> 1], mean };
}

async function recomputation(
  model: LanguageModel,
  ids: readonly number[],
  tokens: number,
): Promise<{ readonly tokens: number; readonly milliseconds: number }> {
  const times: number[] = [];
  for (let i = 0; i < RECOMPUTATIONS; i++) {
    const session = model.session({ capacity: tokens });
    const begin = performance.now();
    await session.prefill(ids.slice(i, i + tokens));
    times.push(performance.now() - begin);
    session.dispose();
  }
  return { tokens, milliseconds: Math.min(...times) };
}
