/** The first run of digits in the answer is the key: the rule of the published passkey test. */
export function firstInteger(answer: string, refs: readonly string[]): number {
  const found = /\d+/.exec(answer)?.[0];
  return found !== undefined && refs.includes(found) ? 1 : 0;
}

/** The first word of the answer is the value; case does not count. */
export function firstWord(answer: string, refs: readonly string[]): number {
  const found = /\p{L}+/u.exec(answer)?.[0].toLowerCase();
  return found !== undefined && refs.includes(found) ? 1 : 0;
}

/** The words of a value stand in the answer one after another; case and marks between words do not count. */
export function containsPhrase(answer: string, refs: readonly string[]): number {
  const wordsOf = (text: string) => ` ${(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join(" ")} `;
  const words = wordsOf(answer);
  return refs.some((ref) => words.includes(wordsOf(ref))) ? 1 : 0;
}
