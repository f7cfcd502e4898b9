import type { SequenceState } from "../backend/backend.ts";
import type { Composition } from "../method/composition.ts";
import { LongctxError } from "../common/errors.ts";
import { isToken } from "../backend/forward-checks.ts";
import type { Method, MethodState, RingLayout } from "../method/method.ts";
import { checksum, CHECKSUM_DIGITS, fingerprint, MAGIC, type Header } from "./saved-session.ts";
import { layoutOf } from "./session-layout.ts";
import { Session } from "./session.ts";
import type { SessionModel, SessionOptions } from "./session-types.ts";

/**
 * Restores the session that `saveSession` wrote. It is a function of its own because `session.ts` cannot import this
 * file, which makes sessions.
 * @throws LongctxError "file" when the bytes are damaged or belong to another model or device, "method" when the
 * methods differ, "capacity" when the cache asked for is too small
 */
export function restoreSession(
  model: SessionModel,
  method: Composition,
  options: SessionOptions,
  bytes: Uint8Array,
): Session {
  const { header, parts } = unpack(bytes);
  if (header.model !== fingerprint(model))
    throw new LongctxError(
      "file",
      "The session was saved with another model or another trained window; open that one, or prefill again.",
    );
  if (!sameWeights(header.weights, model.weightsChecksum))
    throw new LongctxError(
      "file",
      "The session was saved with other weights of a model of this shape (another training, or another quantisation); open the checkpoint it was saved with, or prefill again.",
    );
  if (header.device !== model.backend.device)
    throw new LongctxError(
      "file",
      `The session was saved on the device ${header.device}, not on ${model.backend.device}, and each device keeps keys, values and memories in a form of its own; restore it on ${header.device}, or prefill again.`,
    );
  if (header.method !== method.key)
    throw new LongctxError(
      "method",
      `The session was saved under ${header.method || "none"}, not under ${method.key || "none"}; give the same method.`,
    );
  const { tokens, promptLength } = header;
  const [logits, saved, ...memories] = parts;
  const { vocabSize } = model.config;
  const remembering = method.parts.filter((part) => part.hook);
  if (tokens.some((id) => !isToken(id, vocabSize))) throw damaged("a token is not in the vocabulary");
  if (logits.byteLength !== 0 && (logits.byteLength !== vocabSize * 4 || tokens.length === 0))
    throw damaged(`${logits.byteLength} bytes of logits`);
  if (memories.length !== remembering.length) throw damaged(`${memories.length} memories`);
  const own = layoutOf(model, method, options).layouts;
  const kept = header.layouts && trunkLayouts(header.layouts, own, options.capacity ?? model.config.maxPositions);
  const layouts = kept ?? own;
  const small = layouts.find(({ pinned, capacity }) => pinned === capacity && tokens.length > capacity);
  if (small)
    throw new LongctxError(
      "capacity",
      `The saved session has ${tokens.length} tokens, but the cache is to hold ${small.capacity}; give a capacity of at least ${tokens.length}.`,
    );
  const hooks = new Map(remembering.map((part, i) => [part, restoreHook(part, model, memories[i])] as const));
  return new Session(model, method, options, {
    state: restoreState(model, layouts, saved, tokens.length, options),
    layouts: kept,
    hooks,
    tokens,
    promptLength,
    lastLogits: logits.byteLength > 0 ? new Float32Array(logits.buffer) : null,
  });
}

/**
 * Returns the ring layouts of a session that was forked under other methods and kept its trunk's rings: a ring that held
 * the whole text gets the capacity asked for, and the others are as they were.
 * @throws LongctxError "file" when there is not one for each layer, "capacity" when the capacity asked for is smaller
 */
function trunkLayouts(
  saved: readonly RingLayout[],
  own: readonly RingLayout[],
  capacity: number,
): readonly RingLayout[] {
  if (saved.length !== own.length) throw damaged(`rings of ${saved.length} layers`);
  return saved.map((layout, layer) => {
    if (layout.pinned === layout.capacity) return { capacity, pinned: capacity };
    if (layout.capacity <= Math.max(capacity, own[layer].capacity)) return layout;
    throw new LongctxError(
      "capacity",
      `The saved session has a cache of ${layout.capacity} tokens in layer ${layer}, but the cache is to hold ${capacity}; give a capacity of at least ${layout.capacity}.`,
    );
  });
}

/** Compares two checksums of weights; null, for a model that was made without its weights, equals every checksum. */
function sameWeights(saved: number | null, here: number | null): boolean {
  return saved === null || here === null || saved === here;
}

function restoreState(
  model: SessionModel,
  layouts: readonly RingLayout[],
  bytes: Uint8Array,
  length: number,
  options: SessionOptions,
): SequenceState {
  const state = guarded("the cache", () => model.backend.restoreState(layouts, bytes, options));
  if (state.rings.length === length) return state;
  state.dispose();
  throw damaged(`a cache of ${state.rings.length} tokens for a text of ${length}`);
}

function restoreHook(method: Method, model: SessionModel, bytes: Uint8Array): MethodState {
  const state = method.hook!.create(model.context);
  guarded(`the memory of ${method.spec}`, () => state.restore(bytes));
  return state;
}

/** Checks the bytes of a saved session and splits them into header and parts, each part a copy. */
function unpack(bytes: Uint8Array): { header: Header; parts: readonly Uint8Array[] } {
  const text = (from: number, to: number) => new TextDecoder().decode(bytes.subarray(from, to));
  const begin = MAGIC.length + CHECKSUM_DIGITS;
  checkFormat(text(0, MAGIC.length));
  if (text(MAGIC.length, begin) !== checksum(bytes.subarray(begin))) throw damaged("its checksum differs");
  const end = bytes.indexOf(10, begin);
  const header = guarded("the header", () => JSON.parse(text(begin, end)) as unknown);
  if (!isHeader(header)) throw damaged("its header lacks something");
  const size = header.parts.reduce((sum, part) => sum + part, end + 1);
  if (size !== bytes.byteLength) throw damaged(`it has ${bytes.byteLength} bytes, but its header speaks of ${size}`);
  let at = end + 1;
  // `slice` of a Buffer, as a file is read, would be a view.
  return { header, parts: header.parts.map((part) => new Uint8Array(bytes.subarray(at, (at += part)))) };
}

/**
 * Checks the first line of a saved session.
 * @throws LongctxError "file" unless it names the format that this version reads
 */
function checkFormat(line: string): void {
  if (line === MAGIC) return;
  const format = /^longctx session (\d)\n$/.exec(line)?.[1];
  if (format === undefined)
    throw new LongctxError(
      "file",
      "This is not a session that longctx saved; hand in what Session.save gave, unchanged.",
    );
  const why =
    format === "1"
      ? ", which does not say whose weights its cache comes from"
      : format === "2"
        ? ", whose cache has one layout for all layers"
        : "";
  throw new LongctxError(
    "file",
    `The session was saved in the format ${format}${why}; this longctx reads the format 3. Prefill again.`,
  );
}

function isHeader(value: unknown): value is Header {
  const { method, model, weights, device, tokens, promptLength, layouts, parts } = (value ?? {}) as Record<
    keyof Header,
    unknown
  >;
  return (
    [method, model, device].every((name) => typeof name === "string") &&
    (weights === null || isCount(weights)) &&
    Array.isArray(tokens) &&
    isCount(promptLength) &&
    (layouts === undefined || (Array.isArray(layouts) && layouts.every(isLayout))) &&
    Array.isArray(parts) &&
    parts.length >= 2 &&
    parts.every(isCount)
  );
}

function isLayout(value: unknown): boolean {
  const { capacity, pinned, reach } = (value ?? {}) as Record<keyof RingLayout, unknown>;
  return isCount(capacity) && isCount(pinned) && (reach === undefined || isCount(reach));
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function guarded<Value>(what: string, act: () => Value): Value {
  try {
    return act();
  } catch (error) {
    throw error instanceof LongctxError ? error : damaged(`${what} cannot be read`, error);
  }
}

function damaged(why: string, cause?: unknown): LongctxError {
  return new LongctxError("file", `The saved session is damaged (${why}); prefill again.`, { cause });
}
