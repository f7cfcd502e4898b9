import type { Composition } from "./compose.ts";
import { LongctxError } from "./errors.ts";
import type { LanguageModel } from "./model.ts";
import { Session, type SessionOptions, type SessionState } from "./session.ts";

const MAGIC = "longctx session 1\n";

interface Header {
  readonly method: string;
  readonly model: string;
  readonly tokens: readonly number[];
  /** Bytes of the parts that follow: the last logits, the cache, the memories in the order of the methods. */
  readonly parts: readonly number[];
}

/** What has to be equal for a cache to mean anything. */
function fingerprint(model: LanguageModel): string {
  const { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize, rope } = model.config;
  return JSON.stringify([modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize, rope, model.context.trainedWindow]);
}

export function saveSession(session: Session, state: SessionState): Uint8Array {
  const logits = state.lastLogits ? new Uint8Array(state.lastLogits.buffer, state.lastLogits.byteOffset, state.lastLogits.byteLength) : new Uint8Array();
  const parts = [logits, state.cache.save(), ...[...state.memory.values()].map((memory) => memory.save())];
  const header: Header = { method: session.method.spec, model: fingerprint(session.model), tokens: session.tokens, parts: parts.map((part) => part.byteLength) };
  const head = new TextEncoder().encode(`${MAGIC}${JSON.stringify(header)}\n`);
  const bytes = new Uint8Array(head.byteLength + parts.reduce((size, part) => size + part.byteLength, 0));
  let at = 0;
  for (const part of [head, ...parts]) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

export function restoreSession(model: LanguageModel, method: Composition, options: SessionOptions, bytes: Uint8Array): Session {
  const start = MAGIC.length;
  const end = bytes.indexOf(10, start);
  if (end < 0 || new TextDecoder().decode(bytes.subarray(0, start)) !== MAGIC) throw new LongctxError("file", "This is not a session that longctx saved.");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(start, end))) as Header;
  const size = header.parts.reduce((sum, part) => sum + part, end + 1);
  if (size !== bytes.byteLength) throw new LongctxError("file", `The saved session has ${bytes.byteLength} bytes, but its header speaks of ${size}; it is damaged.`);
  if (header.model !== fingerprint(model)) throw new LongctxError("file", "The session was saved with another model or another trained window.");
  if (header.method !== method.spec) throw new LongctxError("method", `The session was saved under ${header.method}, not under ${method.spec}; give the same method.`);
  let at = end + 1;
  const [logits, cache, ...memories] = header.parts.map((part) => bytes.slice(at, (at += part)));
  const fresh = new Session(model, method, options);
  fresh.dispose();
  const remembering = method.parts.filter((part) => part.memory);
  const memory = new Map(
    remembering.map((part, i) => {
      const state = part.memory!.create(model.context);
      state.restore(memories[i]!);
      return [part, state] as const;
    }),
  );
  const lastLogits = logits!.byteLength > 0 ? new Float32Array(logits!.buffer) : null;
  return new Session(model, method, options, { cache: model.backend.restoreCache(fresh.layout, cache!), memory, tokens: header.tokens, lastLogits });
}
