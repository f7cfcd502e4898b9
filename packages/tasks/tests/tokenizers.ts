import type { Tokenizer } from "@longctx/core";
import { openCheckpoint } from "@longctx/loaders";
import { TINY_MODEL } from "@longctx/tiny";

/** The embedded model's WordPiece tokenizer, which puts <bos> in front. */
export async function tinyTokenizer(): Promise<Tokenizer> {
  const checkpoint = await openCheckpoint(TINY_MODEL);
  checkpoint.close();
  return checkpoint.tokenizer!;
}

/**
 * A tokenizer with the pre-tokenisation of GPT-2's (a word takes the space before it) and at most four characters in a
 * token: what passkey prompts meet in real models, where keys are several tokens.
 */
export function wordTokenizer(): Tokenizer {
  const tokens: string[] = [];
  const ids = new Map<string, number>();
  const idOf = (token: string): number => {
    let id = ids.get(token);
    if (id === undefined) {
      id = tokens.push(token) - 1;
      ids.set(token, id);
    }
    return id;
  };
  return {
    vocabSize: 1,
    encode: (text) =>
      (text.match(/ ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu) ?? [])
        .flatMap((word) => word.match(/.{1,4}/gsu)!)
        .map(idOf),
    decode: (list) => list.map((id) => tokens[id]).join(""),
    token: (id) => tokens[id] ?? "",
  };
}
