import { LongctxError } from "./errors.ts";

/**
 * Returns zeros for the bytes of a saved session.
 * @throws LongctxError "capacity" where memory has no room for them, or an array cannot be as long
 */
export function savedBytes(count: number): Uint8Array {
  try {
    return new Uint8Array(count);
  } catch (cause) {
    throw new LongctxError(
      "capacity",
      `A saved session of ${count} bytes is longer than an array can be, or than there is memory for; save a shorter text, or read this one again instead.`,
      { cause },
    );
  }
}
