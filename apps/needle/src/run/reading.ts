import type { LanguageModel, Method, Session } from "longctx";
import type { Prompt } from "@longctx/tasks";
import type { RunOptions } from "./options.ts";
import type { ResolvedMethod } from "./schedule.ts";
import { reusable, type Trunks } from "./trunks.ts";

export interface ReadingOptions {
  /** Slots of a session that evicts nothing. */
  readonly capacity: number;
  readonly signal: AbortSignal;
  readonly trunks: Trunks | null;
  /** The beginnings of the prompts that methods of the same trunk read next, for the trunks. */
  readonly upcoming?: () => readonly (readonly number[])[];
  /** Looks on from the question on, where it is given. */
  readonly trace?: Method;
  readonly question: RunOptions["question"];
}

/** A session to read the rest of a prompt with. */
export interface Reading {
  readonly session: Session;
  /** Tokens at the beginning that were not read again. */
  readonly reused: number;
  /** To be called when the sample is done. */
  release(): void;
}

/** Does a method end what it reads of the text where the question begins? */
function stopsAtQuestion({ control }: ResolvedMethod, question: RunOptions["question"]): boolean {
  return control !== undefined || question !== "joined";
}

/** What of a prompt is read for all methods of a trunk: the text, or the question with it. */
export function beginningOf(
  method: ResolvedMethod,
  { ids, questionStart }: Prompt,
  question: RunOptions["question"],
): readonly number[] {
  return stopsAtQuestion(method, question) ? ids.slice(0, questionStart) : ids;
}

/**
 * A session that has read a prompt's beginning: what a trunk holds, and before a control or a trace what comes before the
 * question. A control, and a question that is not read with the text, begin at the question itself, a trace at
 * the last end of a chunk before it, so that chunks and groups are those of a prompt that is read by one call.
 */
export async function readBeginning(
  model: LanguageModel,
  method: ResolvedMethod,
  prompt: Prompt,
  { capacity, signal, trunks, upcoming, trace, question }: ReadingOptions,
): Promise<Reading> {
  const beginning = beginningOf(method, prompt, question);
  const kept = trunks && reusable(model, method) ? trunks : null;
  const taken = await kept?.take(model, method, beginning, { capacity, upcoming, signal });
  const session = taken?.session ?? model.session({ method: method.method, capacity });
  const reused = taken?.reused ?? 0;
  const release = taken?.release ?? (() => session.dispose());
  const stops = stopsAtQuestion(method, question);
  if (!stops && !trace) return { session, reused, release };
  try {
    for (;;) {
      const left = prompt.questionStart - session.length;
      const count = stops ? left : session.nextChunk(prompt.ids.length - session.length);
      if (left <= 0 || count > left) break;
      const part = prompt.ids.slice(session.length, session.length + count);
      await session.prefill(part, { signal, length: prompt.ids.length, logitRows: 0 });
    }
    if (!method.control && !trace) return { session, reused, release };
    const goesOn = method.control ?? session.method;
    const fork = session.fork({ method: trace ? [...goesOn.parts, trace] : goesOn });
    return { session: fork, reused, release: () => (fork.dispose(), release()) };
  } catch (error) {
    release();
    throw error;
  }
}
