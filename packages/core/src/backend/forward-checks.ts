import type { Composition } from "../method/composition.ts";
import { LongctxError } from "../common/errors.ts";

/** @throws LongctxError "argument" when there are none, or one is not in the vocabulary */
export function checkIds(ids: readonly number[], vocabSize: number): void {
  if (ids.length === 0) throw new LongctxError("argument", "There are no tokens to read; give at least one id.");
  const wrong = ids.findIndex((id) => !isToken(id, vocabSize));
  if (wrong >= 0)
    throw new LongctxError(
      "argument",
      `Token ${wrong} has the id ${ids[wrong]}, but the model's ids go from 0 to ${vocabSize - 1}.`,
    );
}

export function isToken(id: unknown, vocabSize: number): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
}

/** How many of `count` rows get logits; 1 unless given. */
export function checkRows(rows = 1, count: number): number {
  if (!Number.isInteger(rows) || rows < 0)
    throw new LongctxError("argument", `logitRows is ${rows}; give a whole number of at least 0.`);
  return Math.min(rows, count);
}

/** The whole text's length N; what is read unless given. */
export function checkLength(length: number | undefined, read: number): number {
  if (length !== undefined && (!Number.isInteger(length) || length < read))
    throw new LongctxError(
      "argument",
      `The length of the whole text is given as ${length}, but ${read} tokens of it are read; give a whole number of at least that.`,
    );
  return length ?? read;
}

/** @throws LongctxError "argument" when the first tokens have to be read by one call, and it has too few */
export function checkBeginning(count: number, { readAtOnce, spec }: Composition): void {
  if (count < readAtOnce)
    throw new LongctxError(
      "argument",
      `The first ${readAtOnce} tokens see each other under ${spec}, so one call has to read them, but it has ${count}. Hand over at least ${readAtOnce} tokens at once, or make the prefix smaller.`,
    );
}

/** @throws LongctxError "argument" unless a text of `read` tokens can end after `length` of them */
export function checkTruncation(length: number, read: number, { readAtOnce, spec }: Composition): void {
  if (!Number.isInteger(length) || length < 0 || length > read)
    throw new LongctxError(
      "argument",
      `Cannot truncate a text of ${read} tokens to ${length}; give a whole number from 0 to ${read}.`,
    );
  if (length > 0 && length < readAtOnce)
    throw new LongctxError(
      "argument",
      `Cannot truncate to ${length}: the first ${readAtOnce} tokens see each other under ${spec}, so none of them can be forgotten alone. Truncate to 0, or to at least ${readAtOnce}.`,
    );
}
