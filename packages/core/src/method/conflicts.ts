import type { Method } from "./method.ts";

/** Returns the reason why two methods cannot be combined although they share no axis, or undefined where they can. */
export function refusal(method: Method, other: Method): string | undefined {
  return method.conflicts?.[nameOf(other)] ?? lengthConflict(method, other);
}

/**
 * Returns why `method` and `other` clash where the frequency table of `method` follows the text's length and `other` lets
 * attention span only some of the text, as the table would stretch for distances that no query meets, or keeps what is made with one table.
 */
function lengthConflict(method: Method, other: Method): string | undefined {
  const { span = Infinity, fixedTable } = other;
  if (!method.lengthDependent || other === method || (span === Infinity && fixedTable === undefined)) return undefined;
  const reason =
    fixedTable ??
    "attention never spans the whole text there, so the table would follow a length that attention never sees";
  return method.fixedAlternative === undefined ? reason : `${reason}; use ${method.fixedAlternative}`;
}

/** Returns the name of a method, the part of its spec before the parameters. */
export function nameOf(method: Method): string {
  return method.spec.split(":", 1)[0];
}
