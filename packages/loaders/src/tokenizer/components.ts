import type { Component, TokenizerJson } from "./tokenizer-json.ts";

/** The Oniguruma pattern of GPT-2's words, by which a `ByteLevel` pre-tokenizer with `use_regex` splits. */
export const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** The pre-tokenizer that splits around every match of `pattern`, and keeps matches and the texts between them. */
export function isolated(pattern: string): Component {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

/** The pre-tokenizer that writes each byte of a word as a character, and splits nothing. */
export const BYTES: Component = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };

/**
 * The same tokenizer, rewritten so that @huggingface/tokenizers 0.2.0 splits a text as Hugging Face's Rust library
 * does. The JavaScript library differs where it uses JavaScript's own \d, \w and \s (digits beyond ASCII, U+0085,
 * U+FEFF), in the behaviours of Split and Punctuation, and in Metaspace's `split` and `add_prefix_space`.
 */
export function faithful(json: TokenizerJson): TokenizerJson {
  return {
    ...json,
    model:
      json.model.type === "WordPiece"
        ? { continuing_subword_prefix: "##", max_input_chars_per_word: 100, unk_token: "[UNK]", ...json.model }
        : json.model,
    pre_tokenizer: json.pre_tokenizer && faithfulPreTokenizer(json.pre_tokenizer),
    decoder: json.decoder && faithfulDecoder(json.decoder),
  };
}

function faithfulPreTokenizer(part: Component): Component {
  switch (part.type) {
    case "Sequence":
      return { ...part, pretokenizers: components(part["pretokenizers"]).map(faithfulPreTokenizer) };
    case "ByteLevel": {
      // The pattern matches the first character and writes it back, since an empty match is also found in surrogate
      // pairs.
      const prefix =
        part["add_prefix_space"] === true
          ? [{ type: "Replace", pattern: { Regex: String.raw`\A[^ ]` }, content: " $&" }]
          : [];
      const words = part["use_regex"] === false ? [] : [isolated(GPT2_WORDS)];
      return prefix.length + words.length ? { type: "Sequence", pretokenizers: [...prefix, ...words, BYTES] } : part;
    }
    case "Digits":
      return isolated(part["individual_digits"] === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
    case "Punctuation":
      return faithfulSplit({
        type: "Split",
        pattern: { Regex: String.raw`[\p{P}$+<=>^\x60|~]` },
        behavior: part["behavior"] ?? "Isolated",
      });
    case "Whitespace":
      return { type: "Split", pattern: { Regex: String.raw`\w+|[^\w\s]+` }, behavior: "Removed", invert: true };
    case "WhitespaceSplit":
      return faithfulSplit({ type: "Split", pattern: { Regex: String.raw`\s+` }, behavior: "Removed" });
    case "CharDelimiterSplit":
      return faithfulSplit({ type: "Split", pattern: { String: part["delimiter"] }, behavior: "Removed" });
    case "Split":
      return faithfulSplit(part);
    case "Metaspace": {
      const replacement = typeof part["replacement"] === "string" ? part["replacement"] : "▁";
      const spaces: Component = { ...part, replacement, prepend_scheme: prependScheme(part) };
      if (part["split"] === false) return spaces;
      return {
        type: "Sequence",
        pretokenizers: [
          spaces,
          faithfulSplit({ type: "Split", pattern: { String: replacement }, behavior: "MergedWithNext" }),
        ],
      };
    }
    default:
      return part;
  }
}

/**
 * A Split of any of the five behaviours, as one of the two that the JavaScript library computes: Isolated and Removed.
 */
function faithfulSplit(part: Component): Component {
  const pattern = part["pattern"] as { readonly Regex?: string; readonly String?: string } | undefined;
  const match = pattern?.Regex ?? (pattern?.String === undefined ? undefined : escaped(pattern.String));
  if (match === undefined) return part;
  if (part["behavior"] === "Removed") return { ...part, pattern: { Regex: match } };
  // Isolated keeps matches and the texts between them alike, so a pattern may as well match those texts.
  if (part["behavior"] === "Isolated") return isolated(match);
  if (part["behavior"] === "Contiguous") return isolated(`(?:${match})+`);
  const between = String.raw`(?:(?!(?:${match}))[\s\S])`;
  return isolated(part["behavior"] === "MergedWithPrevious" ? `${between}*(?:${match})` : `(?:${match})${between}*`);
}

function faithfulDecoder(part: Component): Component {
  if (part.type === "Sequence") return { ...part, decoders: components(part["decoders"]).map(faithfulDecoder) };
  if (part.type === "Metaspace" && prependScheme(part) === "never")
    return { type: "Replace", pattern: { String: part["replacement"] ?? "▁" }, content: " " };
  return part;
}

function prependScheme(part: Component): unknown {
  return part["prepend_scheme"] ?? (part["add_prefix_space"] === false ? "never" : "always");
}

function components(list: unknown): readonly Component[] {
  return Array.isArray(list) ? list : [];
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
}
