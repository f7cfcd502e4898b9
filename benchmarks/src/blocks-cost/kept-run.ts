import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs"; // prettier-ignore
import { LongctxError, type LanguageModel, type Session, type SessionOptions } from "longctx";
import { RUNS } from "../places.ts";

/** A system writes and reads at most 2 GiB at once. */
const AT_ONCE = 2 ** 30;

type Side = "own" | "beside";

/** What an interrupted run has done: its turns, and both sessions in files that its number of turns names. */
export interface KeptRun<Turn> {
  readonly turns: readonly Turn[];
  /** The session as it was kept, or a new one. */
  session(side: Side, model: LanguageModel, options: SessionOptions): Session;
  /** Keeps the turns so far; what was kept before stays where a session is longer than an array of bytes can be. */
  keep(turns: readonly Turn[], sessions: Readonly<Record<Side, Session>>): Promise<void>;
  forget(): void;
}

/** Opens what a run of a name has kept under the same conditions; nothing where `fresh` is asked for, or there is none. */
export function openRun<Turn>(name: string, conditions: object, fresh: boolean): KeptRun<Turn> {
  const folder = `${RUNS}${name}/`;
  const file = `${folder}turns.json`;
  const forget = (): void => rmSync(folder, { recursive: true, force: true });
  const read = () => JSON.parse(readFileSync(file, "utf8")) as { readonly conditions: object; readonly turns: Turn[] };
  const known = !fresh && existsSync(file) && JSON.stringify(read().conditions) === JSON.stringify(conditions);
  if (!known) forget();
  mkdirSync(folder, { recursive: true });
  let turns: readonly Turn[] = known ? read().turns : [];
  const path = (side: Side, count: number) => `${folder}${side}-${count}.session`;
  return {
    get turns() {
      return turns;
    },
    session: (side, model, options) =>
      turns.length === 0 ? model.session(options) : model.restoreSession(readBytes(path(side, turns.length)), options),
    keep: async (done, sessions) => {
      for (const side of ["beside", "own"] as const) {
        const bytes = await savedBytes(sessions[side]);
        if (!bytes) return rmSync(path("beside", done.length), { force: true });
        writeBytes(path(side, done.length), bytes);
      }
      writeFileSync(file, JSON.stringify({ conditions, turns: done }));
      for (const side of ["beside", "own"] as const) rmSync(path(side, turns.length), { force: true });
      turns = [...done];
    },
    forget,
  };
}

/** Null where the session is longer than an array of bytes can be. */
async function savedBytes(session: Session): Promise<Uint8Array | null> {
  try {
    return await session.save();
  } catch (error) {
    if (error instanceof LongctxError && error.code === "capacity") return null;
    throw error;
  }
}

function writeBytes(path: string, bytes: Uint8Array): void {
  const file = openSync(path, "w");
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, Math.min(AT_ONCE, bytes.length - at));
  } finally {
    closeSync(file);
  }
}

function readBytes(path: string): Uint8Array {
  const bytes = new Uint8Array(statSync(path).size);
  const file = openSync(path, "r");
  try {
    for (let at = 0; at < bytes.length;) at += readSync(file, bytes, at, Math.min(AT_ONCE, bytes.length - at), at);
  } finally {
    closeSync(file);
  }
  return bytes;
}
