import { LongctxError, type ChatTemplate, type ModelConfig, type Tokenizer, type Weights } from "@longctx/core";
import type { ByteSource } from "../common/byte-source.ts";
import { weightsFromGguf, weightsFromSafetensors } from "./canonical-weights.ts";
import type { Folder } from "../common/folder.ts";
import { configFromGguf } from "../gguf/config.ts";
import { tokenizerFromGguf } from "../gguf/tokenizer.ts";
import { readGguf } from "../gguf/file.ts";
import { configFromHuggingFace } from "../hugging-face/config.ts";
import { readJson, readJsonIfThere } from "../common/json.ts";
import { readShardedSafetensors } from "../hugging-face/safetensors-index.ts";
import { readSafetensors } from "../hugging-face/safetensors.ts";
import { readTokenizer } from "../tokenizer/tokenizer-folder.ts";

export interface CheckpointOptions {
  /** The trained window T in tokens, in place of what the checkpoint's description says. */
  readonly trainedWindow?: number;
}

/** A model in its files; each tensor is read from its file when a backend asks for it, until `close`. */
export interface Checkpoint {
  readonly path: string;
  readonly format: "safetensors" | "gguf";
  readonly config: ModelConfig;
  readonly weights: Weights;
  /** Null when the checkpoint has no tokenizer. */
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: ChatTemplate | null;
  close(): void;
}

export function beginsLikeGguf(source: ByteSource): boolean {
  return new TextDecoder("latin1").decode(source.read(0, Math.min(4, source.size))) === "GGUF";
}

/**
 * Opens a GGUF file as a model; closing the checkpoint closes `source`.
 * @throws LongctxError "file" for a damaged file, "config" for a model that longctx does not have
 */
export function openGgufFile(source: ByteSource, options: CheckpointOptions = {}): Checkpoint {
  const file = readGguf(source);
  return closingOnError(file, () => {
    const config = withWindow(configFromGguf(file), options);
    const weights = weightsFromGguf(file, config);
    const text = file.metadata.has("tokenizer.ggml.model") ? tokenizerFromGguf(file.metadata) : null;
    return {
      path: file.path,
      format: "gguf",
      config,
      weights,
      tokenizer: text?.tokenizer ?? null,
      chatTemplate: text?.chatTemplate ?? null,
      close: () => file.close(),
    };
  });
}

/**
 * Opens a folder in Hugging Face's layout: config.json, the tokenizer where there is one, and the safetensors file or
 * index `weightsName`, by default the checkpoint's usual one.
 * @throws LongctxError "file" for missing or damaged files, "config" for a model that longctx does not have
 */
export async function openFolder(
  folder: Folder,
  options: CheckpointOptions = {},
  weightsName: string = usualWeights(folder),
): Promise<Checkpoint> {
  const index = "model.safetensors.index.json";
  const isShard = /-\d+-of-\d+\.safetensors$/.test(weightsName) && folder.names.includes(index);
  const chosen = isShard ? index : weightsName;
  if (!folder.names.includes("config.json"))
    throw new LongctxError(
      "file",
      `${folder.path} has no config.json. Safetensors do not describe their model; put the checkpoint's config.json beside them.`,
    );
  const described = configFromHuggingFace(
    await readJson(folder, "config.json", "config"),
    folder.placeOf("config.json"),
    await readJsonIfThere(folder, "generation_config.json", "config"),
  );
  const config = withWindow(described, options);
  const text = await readTokenizer(folder);
  const file = chosen.endsWith(".json")
    ? await readShardedSafetensors(folder, chosen)
    : readSafetensors(await folder.open(chosen));
  return closingOnError(file, () => ({
    path: folder.path,
    format: "safetensors",
    config,
    weights: weightsFromSafetensors(file, config),
    tokenizer: text?.tokenizer ?? null,
    chatTemplate: text?.chatTemplate ?? null,
    close: () => file.close(),
  }));
}

function withWindow(config: ModelConfig, { trainedWindow }: CheckpointOptions): ModelConfig {
  if (trainedWindow === undefined) return config;
  if (Number.isInteger(trainedWindow) && trainedWindow >= 1) return { ...config, trainedWindow };
  throw new LongctxError(
    "argument",
    `trainedWindow is ${trainedWindow}, but has to be a whole number of tokens of at least 1.`,
  );
}

function usualWeights({ path, names }: Folder): string {
  const indices = names.filter((name) => name.endsWith(".safetensors.index.json"));
  const wholes = names.filter((name) => name.endsWith(".safetensors"));
  // transformers' own names come first; any other name counts when the folder has a single index or a single file.
  const chosen = [
    ...["model.safetensors", "model.safetensors.index.json"].filter((name) => names.includes(name)),
    ...single(indices),
    ...single(wholes),
  ][0];
  if (chosen) return chosen;
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  if (ggufs.length > 0)
    throw new LongctxError("file", `${path} holds GGUF files (${ggufs.slice(0, 5).join(", ")}); give the one to open.`);
  if (wholes.length > 1)
    throw new LongctxError(
      "file",
      `${path} holds ${wholes.length} .safetensors files and no index; give the one to open.`,
    );
  const others = names.filter((name) => /\.(bin|pth?|ckpt|h5|msgpack)$/.test(name));
  throw new LongctxError(
    "file",
    `${path} has no .safetensors file${others.length > 0 ? ` (${others.slice(0, 5).join(", ")} is not read; convert it to safetensors)` : ""}. Is the download complete?`,
  );
}

function single(names: readonly string[]): readonly string[] {
  return names.length === 1 ? names : [];
}

function closingOnError<T>(file: { close(): void }, make: () => T): T {
  try {
    return make();
  } catch (error) {
    file.close();
    throw error;
  }
}
