import type { DownloadProgress } from "longctx";

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
