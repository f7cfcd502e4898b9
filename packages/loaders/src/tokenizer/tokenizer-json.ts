import { LongctxError } from "@longctx/core";
import { isObject, type JsonObject } from "../common/json.ts";
import { shown } from "../common/message.ts";

/** A component in a tokenizer.json: a model, normalizer, pre-tokenizer, post-processor or decoder. */
export type Component = { readonly type: string } & Readonly<Record<string, unknown>>;

export interface AddedTokenEntry {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  readonly normalized?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

/** The fields of Hugging Face's tokenizer.json that longctx and its tokenizer library read, checked. */
export interface TokenizerJson {
  readonly model: Component;
  readonly added_tokens: readonly AddedTokenEntry[];
  readonly normalizer: Component | null;
  readonly pre_tokenizer: Component | null;
  readonly post_processor: Component | null;
  readonly decoder: Component | null;
}

/**
 * Ids from here on are refused, because the library keeps an array slot for each id; the largest vocabularies have
 * 2^18.
 */
export const MAX_VOCABULARY = 2 ** 22;

/**
 * Checks the content of the tokenizer.json `place`.
 * @throws LongctxError "file" when a field is missing or has the wrong kind
 */
export function checkTokenizerJson(value: unknown, place: string): TokenizerJson {
  const fail = (problem: string): never => {
    throw new LongctxError("file", `${place}: ${problem}. Is the file whole, and a tokenizer.json of Hugging Face?`);
  };
  const id = (candidate: unknown, of: string): number =>
    Number.isInteger(candidate) && (candidate as number) >= 0 && (candidate as number) < MAX_VOCABULARY
      ? (candidate as number)
      : fail(`the id of ${of} is ${shown(candidate)}, expected an integer from 0 to ${MAX_VOCABULARY - 1}`);
  const component = (name: string): Component | null => {
    const part = root[name] ?? null;
    return part === null || isComponent(part)
      ? part
      : fail(`"${name}" is ${shown(part)}, expected an object with a "type"`);
  };

  const root = isObject(value) ? value : fail(`it holds ${shown(value)}, expected an object`);
  const model = isObject(root["model"])
    ? root["model"]
    : fail(`"model" is ${shown(root["model"])}, expected an object`);
  const type = typeof model["type"] === "string" ? model["type"] : guessedType(model);
  if (type === "Unigram") {
    const entries = Array.isArray(model["vocab"])
      ? model["vocab"]
      : fail(`"model.vocab" is ${shown(model["vocab"])}, expected a list of [token, score]`);
    if (entries.length === 0 || entries.length > MAX_VOCABULARY) fail(`"model.vocab" has ${entries.length} entries`);
    for (const entry of entries) {
      if (!Array.isArray(entry) || typeof entry[0] !== "string" || !Number.isFinite(entry[1]))
        fail(`"model.vocab" holds ${shown(entry)}, expected [token, score]`);
    }
    const unknown = model["unk_id"] ?? null;
    if (unknown !== null && id(unknown, `"model.unk_id"`) >= entries.length)
      fail(`"model.unk_id" is ${shown(unknown)}, but there are ${entries.length} tokens`);
  } else if (type === "BPE" || type === "WordPiece") {
    const vocabulary = isObject(model["vocab"])
      ? model["vocab"]
      : fail(`"model.vocab" is ${shown(model["vocab"])}, expected an object of ids`);
    for (const token of Object.keys(vocabulary)) id(vocabulary[token], shown(token));
    if (type === "BPE") checkMerges(model["merges"], fail);
  } else {
    fail(`"model.type" is ${shown(type)}, expected BPE, Unigram or WordPiece`);
  }

  const added = root["added_tokens"] ?? [];
  const addedTokens = Array.isArray(added) ? added : fail(`"added_tokens" is ${shown(added)}, expected a list`);
  for (const entry of addedTokens) {
    if (!isObject(entry) || typeof entry["content"] !== "string" || entry["content"] === "")
      fail(`"added_tokens" holds ${shown(entry)}, expected an object with "id" and "content"`);
    id(entry["id"], shown(entry["content"]));
  }
  return {
    model: { ...model, type },
    added_tokens: addedTokens,
    normalizer: component("normalizer"),
    pre_tokenizer: component("pre_tokenizer"),
    post_processor: component("post_processor"),
    decoder: component("decoder"),
  };
}

/** The model's type, guessed from its fields, as files from before 2020 do not write it. */
function guessedType(model: JsonObject): string {
  if (Array.isArray(model["vocab"])) return "Unigram";
  return "merges" in model ? "BPE" : "WordPiece";
}

function checkMerges(merges: unknown, fail: (problem: string) => never): void {
  if (!Array.isArray(merges)) return fail(`"model.merges" is ${shown(merges)}, expected a list of pairs`);
  const paired = Array.isArray(merges[0]);
  for (const merge of merges) {
    const parts: unknown = paired ? merge : typeof merge === "string" && merge.split(" ");
    if (!Array.isArray(parts) || parts.length !== 2 || !parts.every((part) => typeof part === "string" && part !== ""))
      fail(`"model.merges" holds ${shown(merge)}, expected a pair of tokens`);
  }
}

function isComponent(value: unknown): value is Component {
  return isObject(value) && typeof value["type"] === "string";
}
