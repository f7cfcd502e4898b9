import { execFile, execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "../src/index.ts";

export const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
export const LLAMA = join(ROOT, "packages/longctx/tests/golden/llama");

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly seconds: number;
}

/** A command line in this process. */
export async function cli(
  argv: readonly string[],
  options: { readonly input?: string; readonly signal?: AbortSignal } = {},
): Promise<Outcome> {
  const begin = performance.now();
  let out = "";
  let err = "";
  const code = await run(argv, {
    out: (text) => (out += text),
    err: (text) => (err += text),
    outIsTerminal: false,
    errIsTerminal: false,
    input: () => Promise.resolve(options.input ?? ""),
    signal: options.signal ?? new AbortController().signal,
  });
  return { code, out, err, seconds: (performance.now() - begin) / 1000 };
}

/** ms in which an idle machine starts an empty Node process. */
const EMPTY_START = 60;

/** How much slower than an idle one the machine is at the moment: limits hold for one that is not busy. */
function busyness(): number {
  const begin = performance.now();
  execFileSync(process.execPath, ["-e", "0"]);
  return Math.max(1, (performance.now() - begin) / EMPTY_START);
}

/** The same through scripts/bootstrap.mjs, as `npm run longctx` and `pnpm longctx` start it from a user's folder. */
export function spawnCli(argv: readonly string[], cwd: string): Promise<Outcome> {
  const before = busyness();
  const begin = performance.now();
  return new Promise((resolve) => {
    const env = { ...process.env, INIT_CWD: cwd };
    execFile(
      process.execPath,
      [join(ROOT, "scripts/bootstrap.mjs"), "longctx", ...argv],
      { cwd: ROOT, env },
      (error, out, err) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        const seconds = (performance.now() - begin) / 1000;
        resolve({ code, out, err, seconds: seconds / Math.max(before, busyness()) });
      },
    );
  });
}
