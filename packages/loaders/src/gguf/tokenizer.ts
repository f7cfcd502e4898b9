import { LongctxError, type ChatTemplate, type Tokenizer } from "@longctx/core";
import { shown } from "../common/message.ts";
import { chatTemplate } from "../tokenizer/chat-template.ts";
import type { GgufMetadata } from "./reader.ts";
import { preTokenizer } from "./pre-tokenizers.ts";
import { cutAtSpaces, mergesOfPieces, rankByScore, spacesRead, spacesSpelled } from "./sentencepiece.ts";
import { surroundedBy, type LoadedTokenizer } from "../tokenizer/tokenizer-folder.ts";
import { MAX_VOCABULARY, type AddedTokenEntry } from "../tokenizer/tokenizer-json.ts";
import { tokenizerFromJson } from "../tokenizer/tokenizer.ts";

/** Values of `tokenizer.ggml.token_type`. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/**
 * The tokenizer and the chat template of a GGUF file: byte-level BPE (`tokenizer.ggml.model` = gpt2) or SentencePiece
 * BPE (llama). The ids are those of the model's original tokenizer; control tokens that a text spells out become their
 * ids. `place` names the file in messages.
 * @throws LongctxError "file" when a key is missing or has an impossible value, or for another kind of tokenizer
 */
export function tokenizerFromGguf(metadata: GgufMetadata, place = "GGUF metadata"): LoadedTokenizer {
  const vocabulary = new GgufVocabulary(metadata, place);
  const model = vocabulary.text("model");
  if (model !== "gpt2" && model !== "llama")
    throw new LongctxError("file", `${place}: tokenizer.ggml.model is ${shown(model)}; longctx reads gpt2 and llama.`);
  const tokenizer = model === "gpt2" ? byteLevel(vocabulary) : sentencePiece(vocabulary);
  return { tokenizer, chatTemplate: templateOf(vocabulary) };
}

function byteLevel(vocabulary: GgufVocabulary): Tokenizer {
  const pre = preTokenizer(vocabulary.text("pre", "default"), vocabulary.place);
  return tokenizerFromJson(
    {
      model: { type: "BPE", vocab: vocabulary.ids, merges: vocabulary.merges(), ignore_merges: pre.ignoreMerges },
      added_tokens: vocabulary.added,
      normalizer: pre.normalizer,
      pre_tokenizer: pre.component,
      post_processor: vocabulary.around(pre.addBos),
      decoder: { type: "ByteLevel" },
    },
    vocabulary.place,
  );
}

function sentencePiece(vocabulary: GgufVocabulary): Tokenizer {
  const prefix = vocabulary.flag("add_space_prefix", true);
  const pieces = vocabulary.pieces();
  const merges = mergesOfPieces(pieces);
  const unknown = vocabulary.specialToken("unknown");
  const tokenizer = tokenizerFromJson(
    {
      model: {
        type: "BPE",
        vocab: vocabulary.ids,
        merges: merges.map(({ left, right }) => [left, right]),
        byte_fallback: true,
        fuse_unk: true,
        unk_token: unknown,
      },
      added_tokens: vocabulary.added,
      normalizer: spacesSpelled(prefix),
      pre_tokenizer: cutAtSpaces(pieces.keys()),
      post_processor: vocabulary.around(true),
      decoder: spacesRead(prefix),
    },
    vocabulary.place,
  );
  rankByScore(tokenizer, merges);
  return tokenizer;
}

function templateOf(vocabulary: GgufVocabulary): ChatTemplate | null {
  const source = vocabulary.metadata.get("tokenizer.chat_template");
  if (typeof source !== "string") return null;
  const names = { bos_token: "bos", eos_token: "eos", unk_token: "unknown", pad_token: "padding" } as const;
  const tokens = Object.entries(names).flatMap(([name, role]) => {
    const token = vocabulary.specialToken(role);
    return token === undefined ? [] : [[name, token] as const];
  });
  return chatTemplate(source, Object.fromEntries(tokens), vocabulary.place);
}

/** The values of the `tokenizer.ggml.*` keys, each checked when it is read. */
class GgufVocabulary {
  readonly metadata: GgufMetadata;
  readonly place: string;
  readonly tokens: readonly string[];
  readonly #types: ArrayLike<number> | null;

  constructor(metadata: GgufMetadata, place: string) {
    this.metadata = metadata;
    this.place = place;
    this.tokens = this.#texts("tokens");
    if (this.tokens.length === 0 || this.tokens.length > MAX_VOCABULARY)
      throw this.#impossible("tokens", `${this.tokens.length} entries`, `1 to ${MAX_VOCABULARY}`);
    this.#types = this.#numbers("token_type");
  }

  text(key: string, otherwise?: string): string {
    const value = this.metadata.get(`tokenizer.ggml.${key}`) ?? otherwise;
    if (typeof value !== "string") throw this.#impossible(key, shown(value), "a string");
    return value;
  }

  flag(key: string, otherwise: boolean): boolean {
    const value = this.metadata.get(`tokenizer.ggml.${key}`) ?? otherwise;
    if (typeof value !== "boolean") throw this.#impossible(key, shown(value), "true or false");
    return value;
  }

  get ids(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.tokens.map((token, id) => [token, id]));
  }

  get added(): AddedTokenEntry[] {
    const added: AddedTokenEntry[] = [];
    for (const [id, content] of this.tokens.entries()) {
      const type = this.#types?.[id] ?? NORMAL;
      const special = type === CONTROL || type === UNKNOWN;
      if (content !== "" && (special || type === USER_DEFINED)) added.push({ id, content, special, normalized: false });
    }
    return added;
  }

  merges(): [string, string][] {
    return this.#texts("merges").map((merge) => {
      // The space between the two tokens is not the first character: byte-level tokens have none, others may begin with
      // one.
      const space = merge.indexOf(" ", 1);
      if (space < 0 || space === merge.length - 1)
        throw this.#impossible("merges", shown(merge), "two tokens with a space between");
      return [merge.slice(0, space), merge.slice(space + 1)];
    });
  }

  /** The scores of the normal pieces, by piece. */
  pieces(): Map<string, number> {
    const scores = this.#numbers("scores");
    if (!scores) throw this.#impossible("scores", "missing", "a number per token");
    const pieces = new Map<string, number>();
    for (const [id, token] of this.tokens.entries()) {
      if ((this.#types?.[id] ?? NORMAL) === NORMAL && token !== "") pieces.set(token, scores[id]);
    }
    return pieces;
  }

  /**
   * The token with that role; undefined when the file names none, or an id outside of the vocabulary, as some files do.
   */
  specialToken(role: "bos" | "eos" | "unknown" | "padding"): string | undefined {
    const id = this.metadata.get(`tokenizer.ggml.${role}_token_id`);
    return typeof id === "number" ? this.tokens[id] : undefined;
  }

  /** The post-processor that puts BOS and EOS around a text, as `add_bos_token` and `add_eos_token` say. */
  around(bosOtherwise: boolean) {
    const bos = this.#tokenToAdd("bos", bosOtherwise);
    const eos = this.#tokenToAdd("eos", false);
    return bos === undefined && eos === undefined ? null : surroundedBy(bos, eos);
  }

  #tokenToAdd(role: "bos" | "eos", otherwise: boolean): string | undefined {
    if (!this.flag(`add_${role}_token`, otherwise)) return undefined;
    const token = this.specialToken(role);
    if (token !== undefined || !this.metadata.has(`tokenizer.ggml.add_${role}_token`)) return token;
    const id = this.metadata.get(`tokenizer.ggml.${role}_token_id`);
    throw this.#impossible(
      `${role}_token_id`,
      shown(id),
      `an id below ${this.tokens.length}, as add_${role}_token is true`,
    );
  }

  #texts(key: string): readonly string[] {
    const value = this.metadata.get(`tokenizer.ggml.${key}`);
    if (!Array.isArray(value) || !value.every((entry) => typeof entry === "string"))
      throw this.#impossible(key, Array.isArray(value) ? "a list of other things" : shown(value), "a list of strings");
    return value;
  }

  /** One number per token; null when the key is absent. */
  #numbers(key: string): ArrayLike<number> | null {
    const value = this.metadata.get(`tokenizer.ggml.${key}`);
    if (value === undefined) return null;
    const numbers =
      ArrayBuffer.isView(value) || (Array.isArray(value) && value.every((entry) => typeof entry === "number"));
    if (!numbers || (value as ArrayLike<number>).length !== this.tokens.length)
      throw this.#impossible(key, "another kind or length", `${this.tokens.length} numbers, one per token`);
    return value;
  }

  #impossible(key: string, value: string, expected: string): LongctxError {
    return new LongctxError(
      "file",
      `${this.place}: tokenizer.ggml.${key} is ${value}, expected ${expected}. Was the GGUF written by llama.cpp's converter?`,
    );
  }
}
