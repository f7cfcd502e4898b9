export interface DownloadProgress {
  readonly file: string;
  /** Bytes on disk, those of an earlier interrupted run included. */
  readonly received: number;
  /** Bytes; null when the server does not say. */
  readonly total: number | null;
}

export interface DownloadOptions {
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly signal?: AbortSignal;
  readonly fetch?: typeof fetch;
  /** How often a broken connection is taken up again. Default 3. */
  readonly retries?: number;
}
