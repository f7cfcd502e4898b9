import { LongctxError } from "./errors.ts";

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
