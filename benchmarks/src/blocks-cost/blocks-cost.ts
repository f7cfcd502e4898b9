import { readFileSync } from "node:fs";
import { load, parseMethod, type LanguageModel, type Precision, type Session } from "longctx";
import { describeMachine, sourceRevision } from "../machine.ts";
import { table, writeBetweenMarkers } from "../peers/report.ts";
import { DOCUMENT, novelText, writeResult } from "../places.ts";
import { Progress } from "../progress.ts";
import { median, stepTimes } from "../timing.ts";
import { openRun } from "./kept-run.ts";

export interface BlocksCostOptions {
  readonly model: string;
  readonly precision: Precision;
  /** The method whose old tokens leave the buffers. */
  readonly method: string;
  /** A method that sees as many tokens and keeps no others. */
  readonly beside: string;
  /** Tokens of the text. */
  readonly length: number;
  /** Tokens of the short text whose decoding is compared with that of the long one. */
  readonly early: number;
  /** A folder for the old tokens; memory unless given. */
  readonly farFolder: string | null;
  /** Forget what an earlier run has done. */
  readonly fresh: boolean;
  /** Of the results file and of the table's place in the document. */
  readonly name: string;
  readonly command: string;
}

/** Seconds, and seconds of the processor in all threads, which neighbours of the machine change less. */
interface Time {
  readonly seconds: number;
  readonly processor: number;
}

/** A turn of both: each reads the next `PART` tokens. */
interface Turn {
  /** Tokens read after the turn. */
  readonly tokens: number;
  readonly own: Time & {
    /** Bytes of buffers, of the store of old tokens, and of indexes of their keys. */
    readonly ring: number;
    readonly far: number;
    readonly index: number;
    /** Blocks that were read, and those of them that had to be fetched. */
    readonly read: number;
    readonly fetched: number;
  };
  readonly beside: Time;
}

/** Tokens read in a turn, and decoded in a turn. */
const PART = 2048;
const DECODED = 16;
const DECODING_TURNS = 8;
/** After so many tokens both sessions are saved, so that a run that was stopped goes on from there. */
const KEPT_EVERY = 16_384;

/**
 * Block retrieval beside a method that sees as many tokens: prefill in turns over one long text, then decoding behind it,
 * behind a short text, and beside.
 */
export async function blocksCost(options: BlocksCostOptions): Promise<void> {
  const { precision, method, beside, length, early, name, command } = options;
  const model = await load(options.model, { device: "cpu", precision });
  const ids = longText(model, length);
  const run = openRun<Turn>(name, { precision, method, beside, length }, options.fresh);
  const capacity = length + 2 * DECODING_TURNS * (DECODED + 2);
  const far = options.farFolder === null ? {} : { farFolder: options.farFolder };
  const own = run.session("own", model, { method: parseMethod(method), capacity, ...far });
  const other = run.session("beside", model, { method: parseMethod(beside), capacity });
  const turns = [...run.turns];
  if (own.length > 0) process.stderr.write(`Goes on after ${own.length} of ${length} tokens.\n`);
  const progress = new Progress(length - own.length);
  while (own.length < length) {
    const part = ids.slice(own.length, own.length + PART);
    const before = own.blockReads!;
    const read = (session: Session) => timed(() => session.prefill(part, { length }));
    const [first, second] = turns.length % 2 === 0 ? [own, other] : [other, own];
    const times = new Map([
      [first, await read(first)],
      [second, await read(second)],
    ]);
    const { ring, far: outside, index } = own.bytesByPart;
    const blocks = own.blockReads!;
    const counts = { read: blocks.read - before.read, fetched: blocks.fetched - before.fetched };
    turns.push({ tokens: own.length, own: { ...times.get(own)!, ring, far: outside, index, ...counts }, beside: times.get(other)! }); // prettier-ignore
    progress.step(`${own.length} tokens: ${ratio(turns.slice(-1), "processor").toFixed(2)} of the speed of ${beside}`, part.length); // prettier-ignore
    if (own.length % KEPT_EVERY === 0 && own.length < length) await run.keep(turns, { own, beside: other });
  }
  const short = model.session({ method: parseMethod(method), capacity });
  await short.prefill(ids.slice(0, early));
  const decoding = await decodeInTurns({ late: own, early: short, beside: other });
  const result = { precision, method, beside, length, early, decoding, turns };
  writeResult(name, {
    benchmark: "blocks-cost",
    version: 1,
    date: new Date().toISOString(),
    command,
    machine: describeMachine(),
    revision: sourceRevision(),
    ...result,
  });
  const text = report(result, command);
  process.stdout.write(`${text}\n`);
  writeBetweenMarkers(DOCUMENT, name, text);
  run.forget();
  for (const session of [own, other, short]) session.dispose();
  await model.dispose();
}

/** The novel, from its beginning again where it ends. */
function longText(model: LanguageModel, length: number): number[] {
  const novel = model.tokenizer!.encode(readFileSync(novelText(), "utf8"));
  return Array.from({ length }, (_, i) => novel[i % novel.length]);
}

async function timed(act: () => Promise<unknown>): Promise<Time> {
  const [begin, busy] = [performance.now(), process.cpuUsage()];
  await act();
  const { user, system } = process.cpuUsage(busy);
  return { seconds: (performance.now() - begin) / 1000, processor: (user + system) / 1e6 };
}

type Side = "late" | "early" | "beside";
type Decoding = Readonly<Record<Side, { readonly milliseconds: number; readonly processor: number }>> & {
  /** Blocks that a token read behind the long text, over all layers, and how many of them were fetched. */
  readonly read: number;
  readonly fetched: number;
};

/** Milliseconds a token: the median of steps, and the mean of the processor's. */
async function decodeInTurns(sessions: Readonly<Record<Side, Session>>): Promise<Decoding> {
  const sides = ["late", "early", "beside"] as const;
  const steps: Record<Side, number[]> = { late: [], early: [], beside: [] };
  const busy: Record<Side, number[]> = { late: [], early: [], beside: [] };
  const before = sessions.late.blockReads!;
  for (let turn = 0; turn < DECODING_TURNS; turn++) {
    for (const side of turn % 2 === 0 ? sides : sides.toReversed()) {
      const { processor } = await timed(async () => steps[side].push(...(await stepTimes(sessions[side], DECODED))));
      busy[side].push((1000 * processor) / (DECODED + 1));
    }
  }
  const after = sessions.late.blockReads!;
  const tokens = DECODING_TURNS * (DECODED + 1);
  const of = (side: Side) => ({ milliseconds: median(steps[side]), processor: median(busy[side]) });
  return {
    late: of("late"),
    early: of("early"),
    beside: of("beside"),
    read: (after.read - before.read) / tokens,
    fetched: (after.fetched - before.fetched) / tokens,
  };
}

/** The speed of the method over that of the other one. */
function ratio(turns: readonly Turn[], what: keyof Time): number {
  const sum = (side: "own" | "beside") => turns.reduce((total, turn) => total + turn[side][what], 0);
  return sum("beside") / sum("own");
}

interface Result {
  readonly precision: Precision;
  readonly method: string;
  readonly beside: string;
  readonly length: number;
  readonly early: number;
  readonly decoding: Decoding;
  readonly turns: readonly Turn[];
}

/** From 0 to 8,192 tokens, then to twice as many each time, and the whole text. */
function stretches(length: number): [from: number, to: number][] {
  const ends = [8192];
  while (ends[ends.length - 1] < length) ends.push(2 * ends[ends.length - 1]);
  const parts = ends.map((to, i): [number, number] => [i === 0 ? 0 : ends[i - 1], to]);
  return parts.length > 1 ? [...parts, [0, length]] : parts;
}

function report({ precision, method, beside, length, early, decoding, turns }: Result, command: string): string {
  const rows: string[][] = [];
  const inBlocks = turns.some(({ own }) => own.read > 0);
  for (const [from, to] of stretches(length)) {
    const part = turns.filter(({ tokens }) => tokens > from && tokens <= to);
    if (part.length === 0) continue;
    const { own, tokens } = part[part.length - 1];
    const [read, fetched] = (["read", "fetched"] as const).map((what) => part.reduce((sum, turn) => sum + turn.own[what], 0)); // prettier-ignore
    rows.push([
      `${from} to ${tokens}`,
      ratio(part, "seconds").toFixed(2),
      ratio(part, "processor").toFixed(2),
      `${(own.ring / 1e6).toFixed(0)} MB`,
      `${(own.far / 1e6).toFixed(0)} MB`,
      `${(own.index / 1e6).toFixed(0)} MB`,
      ...(inBlocks ? [read > 0 ? `${(100 * (1 - fetched / read)).toFixed(0)} %` : "–"] : []),
    ]);
  }
  const head = ["tokens", "speed ÷ beside", "of the processor", "buffers", "store", "index", ...(inBlocks ? ["blocks that were there"] : [])]; // prettier-ignore
  const [own, other] = (["own", "beside"] as const).map((side) => turns.reduce((sum, turn) => sum + turn[side].processor, 0)); // prettier-ignore
  const { late, early: short } = decoding;
  const ms = (one: { readonly milliseconds: number; readonly processor: number }) =>
    `${one.milliseconds.toFixed(1)} ms (processor ${one.processor.toFixed(1)})`;
  return `${table(head, rows)}\n\nReading took the processor ${own.toFixed(0)} s, beside ${other.toFixed(0)} s. A token behind ${length}: ${ms(late)}, ${(late.milliseconds / short.milliseconds).toFixed(2)} times (processor ${(late.processor / short.processor).toFixed(2)}) one behind ${early}: ${ms(short)}; beside: ${ms(decoding.beside)}.${decoding.read > 0 ? ` Of ${decoding.read.toFixed(0)} blocks outside of the ring that a token read, over all layers, ${decoding.fetched.toFixed(1)} had to be fetched.` : ""}\n\n\`${method}\` beside \`${beside}\`, \`${precision}\`, a novel in turns of ${PART} tokens: \`${command}\``;
}
