import { Tokenizer as Library } from "@huggingface/tokenizers";
import { LongctxError, type Tokenizer } from "@longctx/core";
import { oneLine } from "../common/message.ts";
import { faithful } from "./components.ts";
import { checkTokenizerJson } from "./tokenizer-json.ts";

/** What longctx uses of @huggingface/tokenizers 0.2.0, whose own declarations do not resolve under nodenext. */
interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { readonly ids: number[] };
  get_added_tokens_decoder(): ReadonlyMap<number, { readonly id: number; readonly special: boolean }>;
  readonly model: { readonly vocab: readonly (string | undefined)[]; readonly bpe_ranks?: Map<string, number> };
  readonly decoder: LibraryDecoder | null;
}

interface LibraryDecoder {
  decode(tokens: readonly string[]): string;
  readonly decoders?: readonly LibraryDecoder[];
  text_decoder?: InstanceType<typeof TextDecoder>;
}

/**
 * A tokenizer from the content of a tokenizer.json: BPE, byte-level BPE, Unigram or WordPiece. `place` names the file
 * in messages. Decoding never "cleans up" a text: a space before a full stop stays.
 * @throws LongctxError "file" when the content is broken or uses a component that the library does not have
 */
export function tokenizerFromJson(content: unknown, place: string): JsonTokenizer {
  const json = faithful(checkTokenizerJson(content, place));
  try {
    return new JsonTokenizer(new Library(json, {}) as object as LibraryTokenizer);
  } catch (error) {
    throw new LongctxError("file", `${place}: the tokenizer cannot be built: ${oneLine(error)}.`, { cause: error });
  }
}

/** The core's Tokenizer, computed by @huggingface/tokenizers. */
export class JsonTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly library: LibraryTokenizer;
  readonly #tokens: readonly (string | undefined)[];
  readonly #special: ReadonlySet<number>;

  constructor(library: LibraryTokenizer) {
    this.library = library;
    if (library.decoder) keepByteOrderMarks(library.decoder);
    this.#tokens = library.model.vocab;
    this.vocabSize = this.#tokens.length;
    this.#special = new Set(
      [...library.get_added_tokens_decoder().values()].filter((token) => token.special).map((token) => token.id),
    );
  }

  encode(text: string, options: { special?: boolean } = {}): number[] {
    return this.library.encode(text, { add_special_tokens: options.special ?? true }).ids;
  }

  /** The text of the ids; an id without a token, of an embedding with more rows than tokens, gives none. */
  decode(ids: readonly number[], options: { skipSpecial?: boolean } = {}): string {
    const skipSpecial = options.skipSpecial ?? true;
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.#tokens[id];
      if (token !== undefined && !(skipSpecial && this.#special.has(id))) tokens.push(token);
    }
    return this.library.decoder?.decode(tokens) ?? tokens.join(" ");
  }

  token(id: number): string {
    const token = this.#tokens[id];
    if (token === undefined)
      throw new LongctxError("argument", `No token has the id ${id}; the vocabulary has ${this.vocabSize}.`);
    return token;
  }
}

/** Makes the library's byte-fallback decoder keep U+FEFF at the start of a run of bytes, where it is text. */
function keepByteOrderMarks(decoder: LibraryDecoder): void {
  if (decoder.text_decoder) decoder.text_decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  for (const part of decoder.decoders ?? []) keepByteOrderMarks(part);
}
