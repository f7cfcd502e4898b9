import { crc32 } from "../common/checksum.ts";
import { savedBytes } from "../common/saved-bytes.ts";
import type { Composition } from "../method/composition.ts";
import type { RingLayout } from "../method/method.ts";
import type { SessionModel, SessionParts } from "./session-types.ts";

/**
 * The first line of a saved session. Behind it: 8 hex digits, a CRC-32 of all bytes after them; a line of JSON, the
 * header; the parts.
 */
export const MAGIC = "longctx session 3\n";

/** The number of hex digits that write a CRC-32. */
export const CHECKSUM_DIGITS = 8;

/** The header of a saved session: what the session belongs to, its tokens, and the sizes of the parts after it. */
export interface Header {
  /** The session's methods in the order in which they act, joined by + (`Composition.key`). */
  readonly method: string;
  readonly model: string;
  /**
   * The CRC-32 checksum of the model's weights (`LanguageModel.weightsChecksum`); null where the weights were not
   * given.
   */
  readonly weights: number | null;
  readonly device: string;
  readonly tokens: readonly number[];
  readonly promptLength: number;
  /** The ring layouts of each layer, where they are not those of the methods (a fork under other methods). */
  readonly layouts?: readonly RingLayout[];
  /**
   * The sizes in bytes of the parts after the header: the last logits, the backend's state, then the memory of each
   * hook in the order of the methods.
   */
  readonly parts: readonly number[];
}

/**
 * Returns a text of all properties of a model, other than its weights, that have to be equal for a saved state to be
 * usable.
 */
export function fingerprint(model: Pick<SessionModel, "config" | "context">): string {
  const { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize, rope, slidingWindows } =
    model.config;
  return JSON.stringify([
    modelType,
    vocabSize,
    hiddenSize,
    layerCount,
    queryHeads,
    keyHeads,
    headSize,
    rope,
    slidingWindows,
    model.context.trainedWindow,
  ]);
}

/** Writes a session as bytes; `restoreSession` reads them. */
export async function saveSession(
  model: SessionModel,
  method: Composition,
  session: SessionParts,
): Promise<Uint8Array> {
  const { lastLogits, state, layouts, hooks, tokens, promptLength } = session;
  const logits = lastLogits
    ? new Uint8Array(lastLogits.buffer, lastLogits.byteOffset, lastLogits.byteLength)
    : new Uint8Array();
  const parts = [logits, await state.save(), ...[...hooks.values()].map((hook) => hook.save())];
  const header: Header = {
    method: method.key,
    model: fingerprint(model),
    weights: model.weightsChecksum,
    device: model.backend.device,
    tokens,
    promptLength,
    layouts,
    parts: parts.map((part) => part.byteLength),
  };
  const begin = MAGIC.length + CHECKSUM_DIGITS;
  const head = new TextEncoder().encode(`${JSON.stringify(header)}\n`);
  const bytes = savedBytes(begin + head.byteLength + parts.reduce((size, part) => size + part.byteLength, 0));
  let at = begin;
  for (const part of [head, ...parts]) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  bytes.set(new TextEncoder().encode(`${MAGIC}${checksum(bytes.subarray(begin))}`));
  return bytes;
}

/** Returns the CRC-32 of bytes as 8 hex digits. */
export function checksum(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(CHECKSUM_DIGITS, "0");
}
