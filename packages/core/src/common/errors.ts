/** The kind of an error, which a program can branch on; the error's message explains the error to people. */
export type ErrorCode =
  | "file" // a file is missing, truncated or contradicts itself
  | "config" // a model's description is impossible or not supported
  | "method" // a method is unknown, has an impossible parameter, or conflicts with another method
  | "argument" // an argument of a call or of a command line is wrong
  | "capacity" // a text does not fit the KV cache
  | "device" // a device is missing or was lost
  | "network" // a download failed
  | "aborted"; // the caller's abort signal stopped the work

/**
 * The error that longctx throws on bad input: its one-line message names the place, the value and the remedy.
 * Any other error that longctx throws is a defect of longctx.
 */
export class LongctxError extends Error {
  override readonly name = "LongctxError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Joins names as "a, b or c", for error messages that list the possible values. */
export function listed(names: Iterable<string>): string {
  const all = [...names];
  return all.length < 2 ? all.join("") : `${all.slice(0, -1).join(", ")} or ${all.at(-1)}`;
}
