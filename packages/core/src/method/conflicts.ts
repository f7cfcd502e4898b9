import type { Method } from "./method.ts";

/** Why a method cannot be combined with another one that shares no axis with it; undefined where it can be. */
export function refusal(method: Method, other: Method): string | undefined {
  return method.conflicts?.[nameOf(other)] ?? lengthConflict(method, other);
}

/** A table that follows the length of the text is for attention that spans the text. */
function lengthConflict(method: Method, other: Method): string | undefined {
  const { span = Infinity } = other;
  if (!method.lengthDependent || span === Infinity || other === method) return undefined;
  const reason = "its cache never grows past its window, so the table would follow a length that attention never sees";
  return method.fixedAlternative === undefined ? reason : `${reason}; use ${method.fixedAlternative}`;
}

export function nameOf(method: Method): string {
  return method.spec.split(":", 1)[0];
}
