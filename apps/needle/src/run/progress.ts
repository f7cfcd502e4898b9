import { Listr } from "listr2";
import type { DownloadProgress } from "longctx";
import { counted, duration } from "../report/names.ts";

export interface ProgressState {
  readonly done: number;
  readonly total: number;
  readonly right: number;
  readonly errors: number;
  /** Tokens read and written by this process, and the ms it took. */
  readonly tokens: number;
  readonly time: number;
  /** ms; null while unknown. */
  readonly left: number | null;
  /** What is measured now. */
  readonly now: string;
}

export type Report = (state: ProgressState) => void;

/** ms between two lines where nothing can be redrawn. */
const PLAIN_INTERVAL = 10_000;

/** Runs `work` under a display that is redrawn on a terminal, and under a line now and then elsewhere. Both on stderr. */
export async function withProgress<T>(title: string, work: (report: Report) => Promise<T>): Promise<T> {
  return process.stderr.isTTY ? live(title, work) : plain(title, work);
}

async function live<T>(title: string, work: (report: Report) => Promise<T>): Promise<T> {
  let result: { value: T } | undefined;
  const list = new Listr(
    [
      {
        title,
        task: async (_, task) => {
          const value = await work((state) => {
            task.title = `${title}  ${bar(state)} ${line(state)}`;
            task.output = state.now;
          });
          result = { value };
        },
      },
    ],
    // Ctrl-C is ours: listr2 would end the process before the sample is on disk.
    {
      registerSignalListeners: false,
      rendererOptions: { collapseErrors: false, showErrorMessage: false, logger: undefined },
      renderer: "default",
    },
  );
  await list.run();
  return result!.value;
}

async function plain<T>(title: string, work: (report: Report) => Promise<T>): Promise<T> {
  let last = performance.now();
  let first = true;
  return work((state) => {
    const now = performance.now();
    if (!first && state.done < state.total && now - last < PLAIN_INTERVAL) return;
    if (first && state.done === 0 && state.total > 0)
      process.stderr.write(`${title}: ${counted(state.total, "sample")}\n`);
    else process.stderr.write(`${title}: ${line(state)}\n`);
    first = false;
    last = now;
  });
}

function bar({ done, total }: ProgressState): string {
  const width = 20;
  const full = total === 0 ? width : Math.floor((done / total) * width);
  return "█".repeat(full) + "░".repeat(width - full);
}

function line({ done, total, right, errors, tokens, time, left }: ProgressState): string {
  const parts = [`${done}/${total}`];
  if (done > 0) parts.push(`${Math.round((100 * right) / done)} % right`);
  if (errors > 0) parts.push(counted(errors, "error"));
  if (time > 0) parts.push(`${Math.round((1000 * tokens) / time)} tokens/s`);
  if (left !== null && done < total) parts.push(`about ${duration(left)} left`);
  return parts.join(", ");
}

/** ms between two lines about a download. */
const TOLD_EVERY = 2000;

/** Says on stderr how far a download is, now and then; for `onProgress`. */
export function downloadLines(): (progress: DownloadProgress) => void {
  let told = 0;
  return ({ file, received, total }) => {
    if (performance.now() - told < TOLD_EVERY && received !== total) return;
    told = performance.now();
    const size = total === null ? "" : ` of ${megabytes(total)}`;
    process.stderr.write(`fetching ${file}: ${megabytes(received)}${size}\n`);
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
