import { LongctxError, type Tokenizer } from "@longctx/core";
import { contentHash } from "./hash.ts";

/** Spaces, case, digits, accents and punctuation: where tokenizers differ that share a vocabulary. */
const PROBE = "The pass key is 30517.  Ça coûte: “12,345” (or  so)\nremember : amber walnut .";

/** SHA-256 of a tokenizer's vocabulary and of what it makes of a probe text; part of every prompt's identity. */
export function tokenizerFingerprint(tokenizer: Tokenizer): string {
  const vocabulary = Array.from({ length: tokenizer.vocabSize }, (_, id) => spelling(tokenizer, id));
  return contentHash({ vocabulary, probe: tokenizer.encode(PROBE), bare: tokenizer.encode(PROBE, { special: false }) });
}

/** Vocabularies have gaps: added tokens may lie beyond the others. */
function spelling(tokenizer: Tokenizer, id: number): string {
  try {
    return tokenizer.token(id);
  } catch (error) {
    if (error instanceof LongctxError) return "";
    throw error;
  }
}
