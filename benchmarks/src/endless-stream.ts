import { readFileSync } from "node:fs";
import { load, parseMethod, type LanguageModel, type Precision, type Session } from "longctx";
import { describeMachine, sourceRevision } from "./machine.ts";
import { table, writeBetweenMarkers } from "./peers/report.ts";
import { DOCUMENT, novelText, writeResult } from "./places.ts";
import { Progress } from "./progress.ts";
import { median, stepTimes } from "./timing.ts";

export interface StreamOptions {
  readonly model: string;
  readonly precision: Precision;
  readonly method: string;
  /** Tokens of the whole stream. */
  readonly length: number;
  readonly command: string;
}

/** Steps timed on each side, and how many of them in a row. */
const STEPS = 256;
const TURN = 32;
/** Tokens of the short text beside the long one. */
const EARLY = 2000;
const RECOMPUTATIONS = 3;

/** A stream through a cache of fixed size: are late steps as fast as early ones, and what would recomputing cost? */
export async function endlessStream({ model: path, precision, method, length, command }: StreamOptions): Promise<void> {
  const model = await load(path, { device: "cpu", precision });
  const ids = model.tokenizer!.encode(readFileSync(novelText(), "utf8"));
  const sessions = [EARLY, length].map((tokens) => ({
    tokens,
    session: model.session({ method: parseMethod(method) }),
  }));
  const progress = new Progress(EARLY + length);
  for (const { tokens, session } of sessions) {
    while (session.length < tokens) {
      const from = session.length % ids.length;
      const part = ids.slice(from, from + Math.min(4096, tokens - session.length, ids.length - from));
      await session.prefill(part);
      progress.step(`${session.length} of ${tokens} tokens, cache ${(session.bytes / 1e6).toFixed(1)} MB`, part.length);
    }
  }
  const [early, late] = await stepsInTurns(sessions);
  const again = await recomputation(model, ids, sessions[1].session.layout.capacity);
  for (const { session } of sessions) session.dispose();
  await model.dispose();
  const report = `${table(
    ["after", `${STEPS} steps, ms each: median (mean)`, "cache"],
    [early, late].map(({ tokens, median: typical, mean, bytes }) => [
      `${tokens} tokens`,
      `${typical.toFixed(2)} (${mean.toFixed(2)})`,
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

interface Steps {
  readonly tokens: number;
  readonly bytes: number;
  /** Milliseconds a step. */
  readonly median: number;
  readonly mean: number;
}

/** A few steps here, a few there: a machine that is slow for a while is slow for both. */
async function stepsInTurns(
  sessions: readonly { readonly tokens: number; readonly session: Session }[],
): Promise<Steps[]> {
  const times: number[][] = sessions.map(() => []);
  for (let done = 0; done < STEPS; done += TURN) {
    for (const [i, { session }] of sessions.entries()) {
      times[i].push(...(await stepTimes(session, TURN)));
    }
  }
  return sessions.map(({ tokens, session }, i) => ({
    tokens,
    bytes: session.bytes,
    median: median(times[i]),
    mean: times[i].reduce((sum, time) => sum + time, 0) / times[i].length,
  }));
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
