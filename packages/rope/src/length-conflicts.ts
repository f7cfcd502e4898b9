/** Methods under which attention never spans the text, however long it gets. */
const BOUNDED_SPANS = ["sliding", "streaming", "lm-infinite"] as const;

/** Conflicts of a method whose table follows the length of the text; `instead` is what to use in its place. */
export function lengthConflicts(instead: string): Readonly<Record<string, string>> {
  const reason = `its cache never grows past its window, so the table would follow a length that attention never sees; use ${instead}`;
  return Object.fromEntries(BOUNDED_SPANS.map((name) => [name, reason]));
}
