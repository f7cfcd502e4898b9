import { LongctxError, listed } from "@longctx/core";
import { BYTES, GPT2_WORDS, isolated } from "../tokenizer/components.ts";
import type { Component } from "../tokenizer/tokenizer-json.ts";

/** How a byte-level tokenizer splits a text into words before it merges; GGUF names it in `tokenizer.ggml.pre`. */
export interface PreTokenizer {
  readonly component: Component;
  readonly normalizer: Component | null;
  /** Whether a word that is a token as a whole becomes that token, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Whether BOS is put in front of a text when the file has no `tokenizer.ggml.add_bos_token`. */
  readonly addBos: boolean;
}

const NFC: Component = { type: "NFC" };
const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;

/** The pattern of tiktoken's cl100k; the pattern `digits` says how a number is cut. */
const cl100k = (digits: string) =>
  String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|${SPACES}`;

/**
 * The pattern of tiktoken's o200k, which cuts before capitals; the pattern `ending` says what may follow within a word.
 */
const o200k = (digits: string, ending: string) =>
  String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+${ending}|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*${ending}|${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${SPACES}`;

const DEEPSEEK_V3_WORDS = String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_\x60{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|${SPACES}`;

function splitting(patterns: readonly string[], options: Partial<PreTokenizer> = {}): PreTokenizer {
  const component = { type: "Sequence", pretokenizers: [...patterns.map(isolated), BYTES] };
  return { component, normalizer: null, ignoreMerges: false, addBos: false, ...options };
}

/** Splits each digit off, then the rest into GPT-2's words. */
const DIGITS_THEN_WORDS = splitting([String.raw`\p{N}`, GPT2_WORDS]);
const GPT2 = splitting([GPT2_WORDS]);
const LLAMA3 = splitting([cl100k(String.raw`\p{N}{1,3}`)], { ignoreMerges: true, addBos: true });
const QWEN2 = [cl100k(String.raw`\p{N}`)];
const GPT4O = splitting([o200k(String.raw`\p{N}{1,3}`, `${CONTRACTIONS}?`)]);

/**
 * The pre-tokenizers by the names that llama.cpp's converter writes. The patterns are those of the models' own
 * tokenizer.json; that of `default`, the name for an unknown model, is llama.cpp's.
 */
const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  default: splitting([String.raw`[\p{P}$+<=>^~|]+`, GPT2_WORDS, String.raw`\p{N}+`, "[0-9][0-9][0-9]"]),
  "gpt-2": GPT2,
  "phi-2": GPT2,
  smollm: DIGITS_THEN_WORDS,
  starcoder: DIGITS_THEN_WORDS,
  llama3: LLAMA3,
  "llama-v3": LLAMA3,
  "llama-bpe": LLAMA3,
  dbrx: { ...LLAMA3, ignoreMerges: false, addBos: false },
  qwen2: splitting(QWEN2, { normalizer: NFC }),
  "deepseek-r1-qwen": splitting(QWEN2),
  "deepseek-coder": splitting([
    String.raw`[\r\n]`,
    String.raw`\s?\p{L}+`,
    String.raw`\s?\p{P}+`,
    "[一-龥ࠀ-一가-\u{d7ff}]+",
    String.raw`\p{N}`,
  ]),
  "deepseek-v3": splitting([String.raw`\p{N}{1,3}`, "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3_WORDS]),
  tekken: splitting([o200k(String.raw`\p{N}`, "")], { ignoreMerges: true, addBos: true }),
  "gpt-4o": GPT4O,
  llama4: GPT4O,
};

/** The pre-tokenizer that GGUF calls `name`. @throws LongctxError "file" for an unknown name */
export function preTokenizer(name: string, place: string): PreTokenizer {
  const known = Object.hasOwn(PRE_TOKENIZERS, name) ? PRE_TOKENIZERS[name] : undefined;
  if (!known)
    throw new LongctxError(
      "file",
      `${place}: tokenizer.ggml.pre is ${JSON.stringify(name)}, which longctx cannot split text for; it knows ${listed(Object.keys(PRE_TOKENIZERS))}.`,
    );
  return known;
}
