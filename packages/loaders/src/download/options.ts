/** How far the download of a file is, or its reading into memory. */
export interface DownloadProgress {
  readonly file: string;
  /** Bytes so far, those of an earlier, interrupted download included. */
  readonly received: number;
  /** Bytes of the whole file; null when the server does not say. */
  readonly total: number | null;
}

export interface DownloadOptions {
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly signal?: AbortSignal;
  readonly fetch?: typeof fetch;
  /** How often a broken connection is tried again; 3 by default. */
  readonly retries?: number;
}
