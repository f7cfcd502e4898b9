import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { LongctxError, type ChatTemplate, type Tokenizer } from "@longctx/core";
import { chatTemplate } from "./chat-template.ts";
import { readJsonIfThere } from "./json-file.ts";
import { checkTokenizerJson, isObject, type Component, type JsonObject } from "./tokenizer-json.ts";
import { oneLine, tokenizerFromJson } from "./tokenizer.ts";

export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
}

/** Of a chat template; the longest published ones have some 20 kB. */
const MAX_BYTES = 2 ** 20;

/** Classes of transformers that make the special tokens around a text from the config, whatever tokenizer.json says. */
const CONFIG_DECIDES = /^(Llama|CodeLlama|Gemma|Cohere)Tokenizer(Fast)?$/;

/**
 * The tokenizer and the chat template of a checkpoint folder, from tokenizer.json, tokenizer_config.json,
 * special_tokens_map.json and chat_template.jinja; null when the folder has no tokenizer.json.
 * @throws LongctxError "file" when one of them is broken
 */
export function loadTokenizerFolder(directory: string): LoadedTokenizer | null {
  const place = join(directory, "tokenizer.json");
  const content = readJsonIfThere(place, "file");
  if (content === null) return null;
  const config = optional(join(directory, "tokenizer_config.json"));
  const specialTokens = namedTokens({ ...optional(join(directory, "special_tokens_map.json")), ...config });

  const json = checkTokenizerJson(content, place);
  const decides = typeof config["tokenizer_class"] === "string" && CONFIG_DECIDES.test(config["tokenizer_class"]);
  const around = decides && typeof config["add_bos_token"] === "boolean";
  const bos = config["add_bos_token"] === true ? specialTokens["bos_token"] : undefined;
  const eos = config["add_eos_token"] === true ? specialTokens["eos_token"] : undefined;
  const tokenizer = tokenizerFromJson(around ? { ...json, post_processor: surroundedBy(bos, eos) } : json, place);

  const source = templateSource(directory, config);
  return { tokenizer, chatTemplate: source && chatTemplate(source.text, specialTokens, source.place) };
}

/** The post-processor that puts these tokens before and behind a text. */
export function surroundedBy(bos: string | undefined, eos: string | undefined): Component {
  const special = (token: string | undefined) =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: 0 } }];
  return {
    type: "TemplateProcessing",
    single: [...special(bos), { Sequence: { id: "A", type_id: 0 } }, ...special(eos)],
    pair: [],
    special_tokens: {},
  };
}

function templateSource(directory: string, config: JsonObject): { text: string; place: string } | null {
  const own = join(directory, "chat_template.jinja");
  if (existsSync(own)) return { text: readText(own), place: own };
  const older = join(directory, "chat_template.json");
  for (const [holder, place] of [
    [optional(older), older],
    [config, join(directory, "tokenizer_config.json")],
  ] as const) {
    const found = holder["chat_template"] ?? null;
    if (typeof found === "string") return { text: found, place };
    // Several templates under names: the one without tools is called default.
    const named = Array.isArray(found)
      ? found.find((entry) => isObject(entry) && entry["name"] === "default")
      : undefined;
    if (isObject(named) && typeof named["template"] === "string") return { text: named["template"], place };
  }
  return null;
}

/** `bos_token`, `eos_token`, ...: written as a string or as an object with a `content`. */
function namedTokens(config: JsonObject): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    const content = isObject(value) ? value["content"] : value;
    if (name.endsWith("_token") && typeof content === "string") tokens[name] = content;
  }
  return tokens;
}

function optional(path: string): JsonObject {
  return readJsonIfThere(path, "file") ?? {};
}

function readText(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > MAX_BYTES) throw new Error(`it has ${size} bytes, at most ${MAX_BYTES} are read`);
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new LongctxError("file", `Cannot read ${path}: ${oneLine(error)}.`, { cause: error });
  }
}
