import type { ChatTemplate, Tokenizer } from "@longctx/core";
import { chatTemplate } from "./chat-template.ts";
import { readText, type Folder } from "../common/folder.ts";
import { isObject, readJsonIfThere, type JsonObject } from "../common/json.ts";
import { checkTokenizerJson, type Component } from "./tokenizer-json.ts";
import { tokenizerFromJson } from "./tokenizer.ts";

/** A checkpoint's tokenizer, with its chat template where it has one. */
export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
}

/** The limit of a chat template's length; the longest published ones have some 20 kB. */
const MAX_TEMPLATE_BYTES = 2 ** 20;

/**
 * The classes of transformers that put special tokens around a text as tokenizer_config.json says, not tokenizer.json.
 */
const CONFIG_DECIDES = /^(Llama|CodeLlama|Gemma|Cohere)Tokenizer(Fast)?$/;

/**
 * Reads the tokenizer and the chat template of a checkpoint folder from tokenizer.json, tokenizer_config.json,
 * special_tokens_map.json and chat_template.jinja; null when the folder has no tokenizer.json.
 * @throws LongctxError "file" when one of these files is broken
 */
export async function readTokenizer(folder: Folder): Promise<LoadedTokenizer | null> {
  const content = await readJsonIfThere(folder, "tokenizer.json", "file");
  if (content === null) return null;
  const place = folder.placeOf("tokenizer.json");
  const config = await optional(folder, "tokenizer_config.json");
  const specialTokens = namedTokens({ ...(await optional(folder, "special_tokens_map.json")), ...config });

  const json = checkTokenizerJson(content, place);
  const decides = typeof config["tokenizer_class"] === "string" && CONFIG_DECIDES.test(config["tokenizer_class"]);
  const around = decides && typeof config["add_bos_token"] === "boolean";
  const bos = config["add_bos_token"] === true ? specialTokens["bos_token"] : undefined;
  const eos = config["add_eos_token"] === true ? specialTokens["eos_token"] : undefined;
  const tokenizer = tokenizerFromJson(around ? { ...json, post_processor: surroundedBy(bos, eos) } : json, place);

  const source = await templateSource(folder, config);
  return { tokenizer, chatTemplate: source && chatTemplate(source.text, specialTokens, source.place) };
}

/** The post-processor that puts BOS before and EOS after a text, where they are given. */
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

async function templateSource(folder: Folder, config: JsonObject): Promise<{ text: string; place: string } | null> {
  const own = "chat_template.jinja";
  if (folder.names.includes(own))
    return { text: await readText(folder, own, MAX_TEMPLATE_BYTES, "file"), place: folder.placeOf(own) };
  const older = "chat_template.json";
  for (const [holder, name] of [
    [await optional(folder, older), older],
    [config, "tokenizer_config.json"],
  ] as const) {
    const place = folder.placeOf(name);
    const found = holder["chat_template"] ?? null;
    if (typeof found === "string") return { text: found, place };
    // A checkpoint may have several named templates; the one without tools is called "default".
    const named = Array.isArray(found)
      ? found.find((entry) => isObject(entry) && entry["name"] === "default")
      : undefined;
    if (isObject(named) && typeof named["template"] === "string") return { text: named["template"], place };
  }
  return null;
}

/**
 * The special tokens by field name (`bos_token`, `eos_token`, ...); a field holds a string, or an object with
 * `content`.
 */
function namedTokens(config: JsonObject): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    const content = isObject(value) ? value["content"] : value;
    if (name.endsWith("_token") && typeof content === "string") tokens[name] = content;
  }
  return tokens;
}

async function optional(folder: Folder, name: string): Promise<JsonObject> {
  return (await readJsonIfThere(folder, name, "file")) ?? {};
}
