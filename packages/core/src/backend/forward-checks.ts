import type { Composition } from "../method/composition.ts";
import { LongctxError } from "../common/errors.ts";
import { choicesOf, hasChoices, type AttentionPlan } from "../method/plan.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Backend, ForwardRequest, SequenceState } from "./backend.ts";

/** Checks token ids. @throws LongctxError "argument" when there are none, or one is not in the vocabulary */
export function checkIds(ids: readonly number[], vocabSize: number): void {
  if (ids.length === 0) throw new LongctxError("argument", "There are no tokens to read; give at least one id.");
  const wrong = ids.findIndex((id) => !isToken(id, vocabSize));
  if (wrong >= 0)
    throw new LongctxError(
      "argument",
      `Token ${wrong} has the id ${ids[wrong]}, but the model's ids go from 0 to ${vocabSize - 1}.`,
    );
}

/**
 * Checks a chunk before a backend writes any of it: its ids, its rows with logits, the layer at which it stops, and the
 * room for it.
 * @throws LongctxError "argument" or "capacity"
 */
export function checkRequest(
  { state, ids, logitRows, stopAfter }: ForwardRequest,
  { vocabSize, layerCount }: Pick<ModelConfig, "vocabSize" | "layerCount">,
): void {
  checkIds(ids, vocabSize);
  checkStop(stopAfter, logitRows, layerCount);
  if (!Number.isInteger(logitRows) || logitRows < 0 || logitRows > ids.length)
    throw new LongctxError(
      "argument",
      `Logits of ${logitRows} rows were asked for, but the chunk has ${ids.length} tokens.`,
    );
  state.rings.fork().append(ids.length);
}

/**
 * Checks the options of a pass that is to end at a layer.
 * @throws LongctxError "argument" for a layer that the model does not have, or when logits are asked for
 */
export function checkStop(stopAfter: number | undefined, logitRows: number | undefined, layerCount: number): void {
  if (stopAfter === undefined) return;
  if (!Number.isInteger(stopAfter) || stopAfter < 0 || stopAfter >= layerCount)
    throw new LongctxError(
      "argument",
      `stopAfter is ${stopAfter}, but the model's layers go from 0 to ${layerCount - 1}; give one of them.`,
    );
  if (logitRows !== undefined && logitRows > 0)
    throw new LongctxError(
      "argument",
      `A pass that stops after layer ${stopAfter} computes no logits, but ${logitRows} rows of them were asked for; leave out logitRows or stopAfter.`,
    );
}

/** Checks that `count` more tokens fit. @throws LongctxError "capacity" */
export function checkRoom(count: number, length: number, room: number): void {
  if (count > room)
    throw new LongctxError(
      "capacity",
      `The text has ${length + count} tokens, but the cache holds ${length + room}. Give a capacity of at least ${length + count}, a shorter text, or a method that bounds the cache.`,
    );
}

/** Returns whether a value is a token id of the vocabulary. */
export function isToken(id: unknown, vocabSize: number): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
}

/**
 * Returns for how many of the last `count` rows logits are computed: `rows`, 1 unless given, at most `count`.
 * @throws LongctxError "argument" when `rows` is not a whole number of at least 0
 */
export function checkRows(rows = 1, count: number): number {
  if (!Number.isInteger(rows) || rows < 0)
    throw new LongctxError("argument", `logitRows is ${rows}; give a whole number of at least 0.`);
  return Math.min(rows, count);
}

/**
 * Returns the length N of the whole text: as the caller gave it, else the number of tokens read.
 * @throws LongctxError "argument" when the length given is below the number of tokens read
 */
export function checkLength(length: number | undefined, read: number): number {
  if (length !== undefined && (!Number.isInteger(length) || length < read))
    throw new LongctxError(
      "argument",
      `The length of the whole text is given as ${length}, but ${read} tokens of it are read; give a whole number of at least that.`,
    );
  return length ?? read;
}

/**
 * Checks that the first call reads enough tokens.
 * @throws LongctxError "argument" when it has fewer than the tokens that attend to each other in both directions
 */
export function checkBeginning(count: number, { readAtOnce, spec }: Composition): void {
  if (count < readAtOnce)
    throw new LongctxError(
      "argument",
      `The first ${readAtOnce} tokens see each other under ${spec}, so one call has to read them, but it has ${count}. Hand over at least ${readAtOnce} tokens at once, or make the prefix smaller.`,
    );
}

/** Checks that a text of `read` tokens can be truncated to `length`. @throws LongctxError "argument" when it cannot */
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

/**
 * Checks that all choices of a plan are made by all scores, on a device without approximate indexes.
 * @throws LongctxError "method" where one asks for such an index
 */
export function checkExact(plan: AttentionPlan, device: string): void {
  const approximate = hasChoices(plan) ? choicesOf(plan).find(({ index }) => index) : undefined;
  if (approximate)
    throw new LongctxError(
      "method",
      `The choice "${approximate.id}" asks for an approximate index (${approximate.index!.id}): index=hnsw runs on cpu; take index=exact on ${device}.`,
    );
}

/** Makes the error for a state that another backend made, and that this backend cannot read. */
export function foreignState({ backend: maker }: SequenceState, backend: Backend): LongctxError {
  const whose =
    maker.device === backend.device ? "another model on the same device" : `another device (${maker.device})`;
  return new LongctxError(
    "argument",
    `This state was made by ${whose} and cannot be read on ${backend.device} by this one; make it with this backend's createState.`,
  );
}

/** Returns the error for a saved state whose rings were laid out otherwise than those it is to be restored into. */
export function otherLayout(): LongctxError {
  return new LongctxError(
    "file",
    "The saved cache has its tokens in other slots than the new one would, or is damaged; restore it with the capacity and the chunk it was saved with, or prefill again.",
  );
}
