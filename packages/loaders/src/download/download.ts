import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { LongctxError } from "@longctx/core";
import type { DownloadOptions } from "./options.ts";
import { oneLine } from "../common/message.ts";

/**
 * The folder of downloads, which may not exist yet: LONGCTX_CACHE, else XDG_CACHE_HOME/longctx, else ~/.cache/longctx.
 */
export function cacheDirectory(): string {
  const own = process.env["LONGCTX_CACHE"];
  if (own) return resolve(own);
  const shared = process.env["XDG_CACHE_HOME"];
  return shared ? join(resolve(shared), "longctx") : join(homedir(), ".cache", "longctx");
}

/** A file on a server, with what is known about it beforehand. */
export interface RemoteFile {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes. */
  readonly size?: number;
  /** In lower-case hexadecimal. */
  readonly sha256?: string;
}

/** Milliseconds after which a connection that sends nothing is given up. */
const STALLED_MS = 60_000;

/**
 * Fetches `remote` to `path`. The bytes go to `<path>.part`, which a later call continues with a range request; the
 * part is renamed to `path` only after its size and SHA-256 were checked, so a file at `path` is whole.
 * @throws LongctxError "network" when the file cannot be fetched or has another size or SHA-256, "aborted" on the
 * signal, "file" when it cannot be written
 */
export async function download(remote: RemoteFile, path: string, options: DownloadOptions = {}): Promise<void> {
  const part = `${path}.part`;
  await writing(part, () => mkdir(dirname(path), { recursive: true }));
  for (let attempt = 0; ; attempt += 1) {
    try {
      await receive(remote, part, basename(path), options);
      break;
    } catch (error) {
      if (options.signal?.aborted)
        throw new LongctxError(
          "aborted",
          `The download of ${basename(path)} was stopped; the next one goes on from there.`,
          { cause: error },
        );
      if (!(error instanceof BrokenConnection)) throw error;
      if (attempt >= (options.retries ?? 3))
        throw new LongctxError(
          "network",
          `Cannot fetch ${remote.url}: ${error.message}. Run it again to go on from what is there.`,
          { cause: error },
        );
      await delay(500 * 2 ** attempt, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
  await finishPart(part, path, remote);
}

/** Checks the size and the SHA-256 of `part` and renames it to `path`, or removes it when they are wrong. */
export async function finishPart(
  part: string,
  path: string,
  expected: { readonly url: string; readonly size?: number; readonly sha256?: string },
): Promise<void> {
  const { size } = await stat(part);
  const wrong = async (problem: string) => {
    await rm(part, { force: true });
    throw new LongctxError(
      "network",
      `${expected.url} is not what was expected: ${problem}. What was fetched is removed; is another file behind that address?`,
    );
  };
  if (expected.size !== undefined && size !== expected.size) await wrong(`it has ${size} bytes, not ${expected.size}`);
  if (expected.sha256 !== undefined) {
    const actual = await sha256(part);
    if (actual !== expected.sha256) await wrong(`its SHA-256 is ${actual}, not ${expected.sha256}`);
  }
  await writing(path, () => rename(part, path));
}

/** The SHA-256 of a file, in lower-case hexadecimal. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** A failure that another attempt may overcome. */
class BrokenConnection extends Error {}

async function receive(remote: RemoteFile, part: string, file: string, options: DownloadOptions): Promise<void> {
  let held = (await stat(part).catch(() => null))?.size ?? 0;
  if (remote.size !== undefined && held > remote.size) held = 0;
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(new Error(`nothing came for ${STALLED_MS / 1000} s`)), STALLED_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, stall.signal]) : stall.signal;
  try {
    options.signal?.throwIfAborted();
    if (held === remote.size) return;
    const range: Record<string, string> = held > 0 ? { range: `bytes=${held}-` } : {};
    const response = await connected(
      (options.fetch ?? fetch)(remote.url, { headers: { ...remote.headers, ...range }, signal }),
    );
    if (response.status >= 500 || response.status === 429)
      throw new BrokenConnection(`the server answers ${response.status}`);
    // 416 (range not satisfiable): the part has all bytes, or is of another file; `finishPart` checks its size and
    // hash.
    if (response.status === 416 && held > 0) return;
    if (!response.ok) throw refused(remote.url, response.status);
    const continued =
      response.status === 206 &&
      Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1]) === held;
    if (!continued) held = 0;
    const announced = Number(response.headers.get("content-length") ?? NaN);
    const total =
      remote.size ??
      (Number.isFinite(announced) && !response.headers.has("content-encoding") ? held + announced : null);
    const handle = await writing(part, () => open(part, continued ? "a" : "w"));
    try {
      if (!response.body) throw new BrokenConnection("the answer is empty");
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await connected(reader.read());
        if (done) break;
        timer.refresh();
        held += value.byteLength;
        if (remote.size !== undefined && held > remote.size) break;
        await writing(part, () => handle.writeFile(value));
        options.onProgress?.({ file, received: held, total });
      }
      if (total !== null && held < total) throw new BrokenConnection(`it broke off after ${held} of ${total} bytes`);
      if (remote.size !== undefined && held > remote.size) throw await tooLong(remote, part);
    } finally {
      await handle.close();
    }
  } finally {
    clearTimeout(timer);
  }
}

async function tooLong(remote: RemoteFile, part: string): Promise<LongctxError> {
  await rm(part, { force: true });
  return new LongctxError(
    "network",
    `${remote.url} is not what was expected: it has more than ${remote.size} bytes. What was fetched is removed.`,
  );
}

function refused(url: string, status: number): LongctxError {
  const reason =
    status === 404
      ? "there is no such file (404)"
      : status === 401 || status === 403
        ? `access is refused (${status}); a gated model needs HF_TOKEN`
        : `the server answers ${status}`;
  return new LongctxError("network", `Cannot fetch ${url}: ${reason}.`);
}

async function connected<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw new BrokenConnection(reasonOf(error), { cause: error });
  }
}

/** The reason of a failed fetch: the message of its cause, as the error itself says only "fetch failed". */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  return oneLine(cause instanceof Error && cause.message ? cause : error) || code || "the connection failed";
}

async function writing<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw new LongctxError("file", `Cannot write ${path}: ${oneLine(error)}.`, { cause: error });
  }
}
