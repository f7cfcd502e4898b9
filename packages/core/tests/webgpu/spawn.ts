import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url))))));

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a TypeScript program as a process of its own, to its own end; some minutes later it is killed. */
export function runProgram(program: URL, env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ["--import", "tsx", fileURLToPath(program)],
      {
        cwd: ROOT,
        timeout: 240_000,
        env: { ...process.env, TSX_TSCONFIG_PATH: join(ROOT, "tsconfig.base.json"), ...env },
      },
      (error, out, err) =>
        resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, out, err }),
    );
  });
}
