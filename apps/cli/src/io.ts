/** What a command may touch of the outside world, so that tests can run commands in their own process. */
export interface Io {
  /** Standard output: results and nothing else. */
  readonly out: (text: string) => void;
  /** Standard error: progress, figures, errors. */
  readonly err: (text: string) => void;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  /** All of standard input. */
  readonly input: () => Promise<string>;
  /** Ctrl-C. */
  readonly signal: AbortSignal;
}
