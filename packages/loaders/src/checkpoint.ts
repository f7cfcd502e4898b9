import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { LongctxError, type ChatTemplate, type ModelConfig, type Tokenizer, type Weights } from "@longctx/core";
import { ByteSource } from "./byte-source.ts";
import { weightsFromGguf, weightsFromSafetensors } from "./canonical-weights.ts";
import { configFromGguf } from "./gguf-config.ts";
import { tokenizerFromGguf } from "./gguf-tokenizer.ts";
import { openGguf } from "./gguf.ts";
import { configFromHuggingFace } from "./hf-config.ts";
import { readJson, readJsonIfThere } from "./json-file.ts";
import { openShardedSafetensors } from "./safetensors-index.ts";
import { openSafetensors } from "./safetensors.ts";
import { loadTokenizerFolder } from "./tokenizer-folder.ts";

export interface CheckpointOptions {
  /** T, tokens: what the model was trained for, when the description does not say it or says it wrongly. */
  readonly trainedWindow?: number;
}

/** A model on disk. The tensors are read from the open file when they are asked for, until `close`. */
export interface Checkpoint {
  readonly path: string;
  readonly format: "safetensors" | "gguf";
  readonly config: ModelConfig;
  readonly weights: Weights;
  /** Null when the checkpoint comes without one. */
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: ChatTemplate | null;
  close(): void;
}

/**
 * Opens a .gguf file, a .safetensors file beside its config.json, or a folder in Hugging Face's layout. Reads headers,
 * description and tokenizer; every weight the model needs is there and has its shape, or this throws.
 * @throws LongctxError "file" for missing or damaged files, "config" for a model that longctx does not have
 */
export async function openCheckpoint(path: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
  const { trainedWindow } = options;
  if (trainedWindow !== undefined && (!Number.isInteger(trainedWindow) || trainedWindow < 1)) {
    throw new LongctxError(
      "argument",
      `trainedWindow is ${trainedWindow}, but has to be a whole number of tokens of at least 1.`,
    );
  }
  const checkpoint = isGguf(path) ? openGgufCheckpoint(path) : openHuggingFaceCheckpoint(path);
  return trainedWindow === undefined ? checkpoint : { ...checkpoint, config: { ...checkpoint.config, trainedWindow } };
}

function isGguf(path: string): boolean {
  if (!existsSync(path))
    throw new LongctxError(
      "file",
      `${path} does not exist. Give the path of a .gguf or .safetensors file, or of a model folder.`,
    );
  if (statSync(path).isDirectory() || path.endsWith(".safetensors")) return false;
  if (path.endsWith(".gguf")) return true;
  // Some tools store GGUF files under their hash.
  const source = new ByteSource(path);
  const magic = Buffer.from(source.read(0, Math.min(4, source.size))).toString("latin1");
  source.close();
  if (magic === "GGUF") return true;
  throw new LongctxError(
    "file",
    `${path} is neither a .gguf nor a .safetensors file nor a model folder; longctx opens these three.`,
  );
}

function openGgufCheckpoint(path: string): Checkpoint {
  const file = openGguf(path);
  return closingOnError(file, () => {
    const config = configFromGguf(file);
    const weights = weightsFromGguf(file, config);
    const text = file.metadata.has("tokenizer.ggml.model") ? tokenizerFromGguf(file.metadata) : null;
    return {
      path,
      format: "gguf",
      config,
      weights,
      tokenizer: text?.tokenizer ?? null,
      chatTemplate: text?.chatTemplate ?? null,
      close: () => file.close(),
    };
  });
}

function openHuggingFaceCheckpoint(path: string): Checkpoint {
  const { folder, weightsPath } = huggingFacePlaces(path);
  const configPath = join(folder, "config.json");
  if (!existsSync(configPath))
    throw new LongctxError(
      "file",
      `${folder} has no config.json. Safetensors do not describe their model; put the checkpoint's config.json beside them.`,
    );
  const config = configFromHuggingFace(
    readJson(configPath, "config"),
    configPath,
    readJsonIfThere(join(folder, "generation_config.json"), "config"),
  );
  const file = weightsPath.endsWith(".json") ? openShardedSafetensors(weightsPath) : openSafetensors(weightsPath);
  return closingOnError(file, () => {
    const weights = weightsFromSafetensors(file, config);
    const text = loadTokenizerFolder(folder);
    return {
      path,
      format: "safetensors",
      config,
      weights,
      tokenizer: text?.tokenizer ?? null,
      chatTemplate: text?.chatTemplate ?? null,
      close: () => file.close(),
    };
  });
}

function huggingFacePlaces(path: string): { folder: string; weightsPath: string } {
  if (!statSync(path).isDirectory()) {
    const folder = dirname(path);
    const index = join(folder, "model.safetensors.index.json");
    return {
      folder,
      weightsPath: /-\d+-of-\d+\.safetensors$/.test(basename(path)) && existsSync(index) ? index : path,
    };
  }
  const files = readdirSync(path);
  const indices = files.filter((file) => file.endsWith(".safetensors.index.json"));
  const wholes = files.filter((file) => file.endsWith(".safetensors"));
  // A checkpoint's usual names first; otherwise the only file there is.
  const chosen = [
    ...["model.safetensors", "model.safetensors.index.json"].filter((file) => files.includes(file)),
    ...single(indices),
    ...single(wholes),
  ][0];
  if (chosen) return { folder: path, weightsPath: join(path, chosen) };
  const ggufs = files.filter((file) => file.endsWith(".gguf"));
  if (ggufs.length > 0)
    throw new LongctxError(
      "file",
      `${path} holds GGUF files (${ggufs.slice(0, 5).join(", ")}); give the path of the one to open.`,
    );
  if (wholes.length > 1)
    throw new LongctxError(
      "file",
      `${path} holds ${wholes.length} .safetensors files and no index; give the path of the one to open.`,
    );
  const others = files.filter((file) => /\.(bin|pth?|ckpt|h5|msgpack)$/.test(file));
  throw new LongctxError(
    "file",
    `${path} has no .safetensors file${others.length > 0 ? ` (${others.slice(0, 5).join(", ")} is not read; convert it to safetensors)` : ""}. Is the download complete?`,
  );
}

function single(files: readonly string[]): readonly string[] {
  return files.length === 1 ? files : [];
}

function closingOnError<T>(file: { close(): void }, make: () => T): T {
  try {
    return make();
  } catch (error) {
    file.close();
    throw error;
  }
}
