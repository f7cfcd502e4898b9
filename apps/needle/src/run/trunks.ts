import type { LanguageModel, Session } from "longctx";
import type { ResolvedMethod } from "./schedule.ts";

/** A session to read a prompt's rest with. */
export interface Beginning {
  /** Holds the beginning of the prompt. */
  readonly session: Session;
  /** Tokens at the beginning that were not read again. */
  readonly reused: number;
  /** To be called when the sample is done. */
  release(): void;
}

export interface TakeOptions {
  /** Slots of a session that evicts nothing. */
  readonly capacity: number;
  /** What the same method reads next, at the same length: states are kept where these texts part from the present one. */
  readonly upcoming?: () => readonly (readonly number[])[];
  readonly signal?: AbortSignal;
}

/** Forks of one method at one length that are kept for prompts to come, and the most bytes they may have together. */
const MOST_FORKS = 8;
const MOST_BYTES = 2 ** 28;

/**
 * Sessions kept between samples: a prompt is read only from where it parts from those before it. A session that can forget
 * is cut back to that place; one that cannot, because it evicts tokens or keeps a memory, is forked at the places where the
 * prompts to come will part. Chunks are those of a prompt that is read from its first token, so the numbers are too.
 */
export class Trunks {
  readonly #trunks = new Map<string, Trunk>();

  /** A session that holds the beginning of `ids`; read on from its length. */
  async take(
    model: LanguageModel,
    resolved: ResolvedMethod,
    ids: readonly number[],
    options: TakeOptions,
  ): Promise<Beginning> {
    const { method } = resolved;
    const key = keyOf(resolved);
    const open = () => model.session({ method, capacity: options.capacity });
    const trunk = this.#trunks.get(key) ?? (forgets(method) ? new RewoundTrunk(open) : new ForkedTrunk(open));
    this.#trunks.set(key, trunk);
    return trunk.take(ids, options);
  }

  /** After a failure nobody knows what a session holds. */
  forget(resolved: ResolvedMethod): void {
    const key = keyOf(resolved);
    this.#trunks.get(key)?.dispose();
    this.#trunks.delete(key);
  }

  dispose(): void {
    for (const trunk of this.#trunks.values()) trunk.dispose();
    this.#trunks.clear();
  }
}

/** Controls go on from the trunk of the method before them. */
function keyOf({ label, trunk = label, length }: ResolvedMethod): string {
  return `${length} ${trunk}`;
}

/** Does what a session holds of a prefix depend on nothing but the prefix? */
export function reusable({ context }: LanguageModel, { method, ofPrompt }: ResolvedMethod): boolean {
  return !ofPrompt && !method.lengthDependentOn(context) && method.parts.every((part) => !part.dependsOnPrompt);
}

/** Can every session of the method be cut back to any chunk's end? */
function forgets({ parts }: ResolvedMethod["method"]): boolean {
  return parts.every((part) => !(part.layout || part.memory || part.hook));
}

interface Trunk {
  take(ids: readonly number[], options: TakeOptions): Promise<Beginning>;
  dispose(): void;
}

/** One session, cut back to what it has in common with the next prompt. */
class RewoundTrunk implements Trunk {
  readonly #session: Session;

  constructor(open: () => Session) {
    this.#session = open();
  }

  async take(ids: readonly number[]): Promise<Beginning> {
    const session = this.#session;
    const same = common(session.tokens, ids);
    const cut = Math.min(same - (same % session.chunk), session.length);
    session.truncate(cut < session.method.readAtOnce ? 0 : cut);
    return { session, reused: session.length, release: () => undefined };
  }

  dispose(): void {
    this.#session.dispose();
  }
}

/** Forks at the places where prompts part. */
class ForkedTrunk implements Trunk {
  readonly #open: () => Session;
  /** Shorter ones first. */
  #forks: Session[] = [];

  constructor(open: () => Session) {
    this.#open = open;
  }

  async take(ids: readonly number[], { upcoming: next = () => [], signal }: TakeOptions): Promise<Beginning> {
    const upcoming = next();
    const of = (fork: Session, prompt: readonly number[]) => common(fork.tokens, prompt) === fork.length;
    const longest = this.#forks.findLast((fork) => of(fork, ids));
    this.#keep((fork) => of(fork, ids) || upcoming.some((prompt) => of(fork, prompt)));
    const session = longest?.fork() ?? this.#open();
    const reused = session.length;
    try {
      const partings = [...new Set(upcoming.map((prompt) => common(ids, prompt)))].sort((a, b) => a - b);
      for (const parting of partings) {
        await readUpTo(session, ids, parting, signal);
        if (session.length > 0 && !this.#forks.some((fork) => fork.length === session.length && of(fork, ids)))
          this.#forks.push(session.fork());
      }
      this.#forks.sort((a, b) => a.length - b.length);
      // The longest ones save the most.
      let bytes = 0;
      const kept = new Set(this.#forks.toReversed().filter((fork, i) => i < MOST_FORKS && (bytes += fork.bytes) <= MOST_BYTES)); // prettier-ignore
      this.#keep((fork) => kept.has(fork));
    } catch (error) {
      session.dispose();
      throw error;
    }
    return { session, reused, release: () => session.dispose() };
  }

  #keep(wanted: (fork: Session) => boolean): void {
    const [kept, gone]: [Session[], Session[]] = [[], []];
    for (const fork of this.#forks) (wanted(fork) ? kept : gone).push(fork);
    this.#forks = kept;
    for (const fork of gone) fork.dispose();
  }

  dispose(): void {
    this.#keep(() => false);
  }
}

/** Reads the chunks of the prompt that end at `end` at the latest. */
async function readUpTo(
  session: Session,
  ids: readonly number[],
  end: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (;;) {
    const to = session.length + session.nextChunk(ids.length - session.length);
    if (to > end || to === session.length) return;
    await session.prefill(ids.slice(session.length, to), { signal, length: ids.length, logitRows: 0 });
  }
}

/** Tokens that both begin with, short of the last token of `ids`. */
function common(tokens: readonly number[], ids: readonly number[]): number {
  const most = Math.min(tokens.length, ids.length - 1);
  let same = 0;
  while (same < most && tokens[same] === ids[same]) same++;
  return same;
}
