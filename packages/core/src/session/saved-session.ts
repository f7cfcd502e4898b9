import { crc32 } from "../common/checksum.ts";
import type { LanguageModel } from "./model.ts";
import type { Session } from "./session.ts";
import type { SessionState } from "./session-types.ts";

/** The first line. Then 8 hex digits, the checksum of all that follows; then a line of JSON, the header; then the parts. */
export const MAGIC = "longctx session 2\n";

export const CHECKSUM_DIGITS = 8;

export interface Header {
  readonly method: string;
  readonly model: string;
  /** `LanguageModel.weightsChecksum`. */
  readonly weights: number | null;
  readonly device: string;
  readonly tokens: readonly number[];
  readonly promptLength: number;
  /** Bytes of the parts that follow: the last logits, the cache, the memories in the order of the methods. */
  readonly parts: readonly number[];
}

/** What has to be equal, beside the weights, for a cache to mean anything. */
export function fingerprint(model: LanguageModel): string {
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

export async function saveSession(session: Session, state: SessionState): Promise<Uint8Array> {
  const logits = state.lastLogits
    ? new Uint8Array(state.lastLogits.buffer, state.lastLogits.byteOffset, state.lastLogits.byteLength)
    : new Uint8Array();
  const parts = [logits, await state.cache.save(), ...[...state.memory.values()].map((memory) => memory.save())];
  const header: Header = {
    method: session.method.spec,
    model: fingerprint(session.model),
    weights: session.model.weightsChecksum,
    device: session.model.backend.device,
    tokens: session.tokens,
    promptLength: state.promptLength,
    parts: parts.map((part) => part.byteLength),
  };
  const begin = MAGIC.length + CHECKSUM_DIGITS;
  const head = new TextEncoder().encode(`${JSON.stringify(header)}\n`);
  const bytes = new Uint8Array(begin + head.byteLength + parts.reduce((size, part) => size + part.byteLength, 0));
  let at = begin;
  for (const part of [head, ...parts]) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  bytes.set(new TextEncoder().encode(`${MAGIC}${checksum(bytes.subarray(begin))}`));
  return bytes;
}

export function checksum(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(CHECKSUM_DIGITS, "0");
}
