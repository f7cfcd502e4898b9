import type { LanguageModel, Session } from "longctx";
import type { ResolvedMethod } from "./schedule.ts";

/**
 * Sessions kept between samples: a prompt is read only from where it differs from the one before it. Chunks begin where
 * they would have begun, so the numbers are those of a prompt that is read from its first token.
 */
export class Trunks {
  readonly #sessions = new Map<string, Session>();

  /** A session that holds the beginning of `ids`; read on from its length. The trunk keeps it. */
  take(
    model: LanguageModel,
    { label, length, method }: ResolvedMethod,
    capacity: number,
    ids: readonly number[],
  ): Session {
    const key = `${length} ${label}`;
    const known = this.#sessions.get(key);
    const trunk = known ?? model.session({ method, capacity });
    this.#sessions.set(key, trunk);
    trunk.truncate(Math.min(common(trunk.tokens, ids, trunk.chunk), trunk.length));
    return trunk;
  }

  /** After a failure nobody knows what a session holds. */
  forget({ label, length }: ResolvedMethod): void {
    const key = `${length} ${label}`;
    this.#sessions.get(key)?.dispose();
    this.#sessions.delete(key);
  }

  dispose(): void {
    for (const session of this.#sessions.values()) session.dispose();
    this.#sessions.clear();
  }
}

/** Does what a session holds of a prefix depend on nothing but the prefix? */
export function reusable({ context }: LanguageModel, { method }: ResolvedMethod): boolean {
  return (
    !method.lengthDependentOn(context) &&
    method.parts.every(
      (part) => !(part.layout || part.memory || part.select || part.readAtOnce || part.dependsOnPrompt),
    )
  );
}

/** Whole chunks that both begin with, short of the last token of `ids`. */
function common(tokens: readonly number[], ids: readonly number[], chunk: number): number {
  const most = Math.min(tokens.length, ids.length - 1);
  let same = 0;
  while (same < most && tokens[same] === ids[same]) same++;
  return same - (same % chunk);
}
