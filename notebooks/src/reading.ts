import { Progress } from "@longctx/cli";

export interface ReadingProgress {
  /** Tells how far the text at hand is; for `onProgress`. */
  at(what: string): (done: number) => void;
  /** So many tokens were read now. */
  finished(tokens: number): void;
  /** So many tokens need not be read, since an earlier run has. */
  skip(tokens: number): void;
  clear(): void;
}

/** A line on stderr for a long run over several texts of `total` tokens together, with how long the rest will take. */
export function reading(total: number): ReadingProgress {
  const { stderr } = process;
  const progress = new Progress({ err: (text) => void stderr.write(text), errIsTerminal: stderr.isTTY }, "Reading");
  let read = 0;
  let toRead = total;
  return {
    at: (what) => (done) => progress.update(read + done, toRead, `${what}: ${done} tokens`),
    finished: (tokens) => {
      read += tokens;
    },
    skip: (tokens) => {
      toRead -= tokens;
    },
    clear: () => progress.clear(),
  };
}
