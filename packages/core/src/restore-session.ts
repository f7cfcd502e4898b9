import type { Composition } from "./compose.ts";
import { LongctxError } from "./errors.ts";
import type { LanguageModel } from "./model.ts";
import { fingerprint, MAGIC, type Header } from "./saved-session.ts";
import { Session, type SessionOptions } from "./session.ts";

/** The session that `saveSession` wrote; apart from it, since sessions save themselves but do not restore themselves. */
export function restoreSession(
  model: LanguageModel,
  method: Composition,
  options: SessionOptions,
  bytes: Uint8Array,
): Session {
  const start = MAGIC.length;
  const end = bytes.indexOf(10, start);
  if (end < 0 || new TextDecoder().decode(bytes.subarray(0, start)) !== MAGIC)
    throw new LongctxError("file", "This is not a session that longctx saved.");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(start, end))) as Header;
  const size = header.parts.reduce((sum, part) => sum + part, end + 1);
  if (size !== bytes.byteLength)
    throw new LongctxError(
      "file",
      `The saved session has ${bytes.byteLength} bytes, but its header speaks of ${size}; it is damaged.`,
    );
  if (header.model !== fingerprint(model))
    throw new LongctxError("file", "The session was saved with another model or another trained window.");
  if (header.method !== method.spec)
    throw new LongctxError(
      "method",
      `The session was saved under ${header.method}, not under ${method.spec}; give the same method.`,
    );
  let at = end + 1;
  const [logits, cache, ...memories] = header.parts.map((part) => bytes.slice(at, (at += part)));
  const fresh = new Session(model, method, options);
  fresh.dispose();
  const remembering = method.parts.filter((part) => part.memory);
  const memory = new Map(
    remembering.map((part, i) => {
      const state = part.memory!.create(model.context);
      state.restore(memories[i]);
      return [part, state] as const;
    }),
  );
  const lastLogits = logits.byteLength > 0 ? new Float32Array(logits.buffer) : null;
  return new Session(model, method, options, {
    cache: model.backend.restoreCache(fresh.layout, cache),
    memory,
    tokens: header.tokens,
    lastLogits,
  });
}
