import { open, type Checkpoint, type DownloadOptions } from "longctx";
import { bytes } from "./format.ts";
import type { Io } from "./io.ts";
import { Progress } from "./progress.ts";

/** What may download shows how far it is. */
export async function withDownloads<Result>(
  io: Io,
  action: (options: Required<Pick<DownloadOptions, "onProgress" | "signal">>) => Promise<Result>,
): Promise<Result> {
  const progress = new Progress(io, "Fetching");
  try {
    return await action({
      signal: io.signal,
      onProgress: ({ file, received, total }) => {
        const size = total === null ? "" : ` of ${bytes(total)}`;
        progress.update(received, total ?? received, `${file}: ${bytes(received)}${size}`);
      },
    });
  } finally {
    progress.clear();
  }
}

/** The checkpoint that a command line names; `hf:` fetches it. The caller closes it. */
export function openReference(reference: string, io: Io, trainedWindow?: number): Promise<Checkpoint> {
  return withDownloads(io, (options) => open(reference, { ...options, trainedWindow }));
}
