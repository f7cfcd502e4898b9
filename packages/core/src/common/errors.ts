/** What went wrong, for programs; the message says it to people. */
export type ErrorCode =
  | "file" // a file is missing, truncated or lies about itself
  | "config" // a model description is impossible or not supported
  | "method" // an unknown method, an impossible parameter, a conflict
  | "argument" // a bad argument of a call or a command line
  | "capacity" // a text longer than the cache that was asked for
  | "device" // a device that is missing or was lost
  | "network" // a download that failed
  | "aborted"; // the caller's abort signal

/**
 * Every error longctx raises on bad input: one line that names the place, the value and the remedy.
 * Anything else that is thrown is a defect of longctx.
 */
export class LongctxError extends Error {
  override readonly name = "LongctxError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** "a, b or c", for messages that list what is possible. */
export function listed(names: Iterable<string>): string {
  const all = [...names];
  return all.length < 2 ? all.join("") : `${all.slice(0, -1).join(", ")} or ${all.at(-1)}`;
}
