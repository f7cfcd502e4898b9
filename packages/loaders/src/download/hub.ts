import { existsSync, readFileSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HubApiError, listFiles, type ListFileEntry } from "@huggingface/hub";
import { LongctxError } from "@longctx/core";
import type { DownloadOptions } from "./options.ts";
import { cacheDirectory, download, reasonOf } from "./download.ts";
import { isObject } from "../common/json.ts";

export interface HubOptions extends DownloadOptions {
  /** Whether to fail instead of fetching what the cache does not have. */
  readonly offline?: boolean;
  /** The Hub's address; by default HF_ENDPOINT, else https://huggingface.co. */
  readonly hubUrl?: string;
}

/**
 * A model of the Hugging Face Hub, written `hf:org/name` or `hf:org/name/file.gguf`, each with an optional `@revision`.
 */
export interface HubReference {
  readonly repository: string;
  /** The path of a .gguf file in the repository; null for the whole checkpoint. */
  readonly file: string | null;
  readonly revision: string;
}

const NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
const REFERENCE = new RegExp(
  `^hf:(${NAME}/${NAME})(?:/((?:${NAME}/)*${NAME}\\.gguf))?(?:@([A-Za-z0-9_][A-Za-z0-9_./-]*))?$`,
);

/** The files of a checkpoint that are fetched beside its weights, where the repository has them. */
const DESCRIPTIONS: ReadonlySet<string> = new Set([
  "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
  "chat_template.jinja", "chat_template.json",
]); // prettier-ignore
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/;

/** The file with the sizes of all files of a checkpoint, written last: a folder that has it was fetched whole. */
const COMPLETE = "longctx-complete.json";

/** The parts of a reference such as `hf:org/name@revision`. @throws LongctxError "argument" for another text */
export function parseHubReference(reference: string): HubReference {
  const [, repository, file, revision] = REFERENCE.exec(reference) ?? [];
  if (!repository || reference.includes(".."))
    throw new LongctxError(
      "argument",
      `${JSON.stringify(reference)} names no model; write hf:org/name, hf:org/name/file.gguf, and @revision behind if need be.`,
    );
  return { repository, file: file ?? null, revision: revision ?? "main" };
}

/**
 * The path in the cache of a model of the Hugging Face Hub: a folder, or a .gguf file. `fetchFromHub` fetches the files
 * that the cache does not have: config, tokenizer and all shards of the safetensors, or the one .gguf file. A model
 * that was fetched whole is never asked for again, even when its revision is a branch that moved on. HF_TOKEN gives
 * access to gated models.
 * @throws LongctxError "network" when the model cannot be fetched, "argument" when the repository does not hold it,
 * "aborted" on the signal, "file" when it cannot be written
 */
export async function fetchFromHub(reference: HubReference, options: HubOptions = {}): Promise<string> {
  const directory = join(
    cacheDirectory(),
    "hub",
    ...reference.repository.split("/"),
    encodeURIComponent(reference.revision),
  );
  const path = reference.file === null ? directory : join(directory, ...reference.file.split("/"));
  if (reference.file === null ? isComplete(directory) : existsSync(path)) return path;
  const spelled = `hf:${reference.repository}${reference.file === null ? "" : `/${reference.file}`}@${reference.revision}`;
  if (options.offline)
    throw new LongctxError("network", `${spelled} is not in the cache (${path}), and nothing may be fetched offline.`);

  const files = await filesOf(reference, spelled, options);
  const chosen = choose(files, reference, spelled);
  for (const file of chosen) {
    const target = join(directory, ...file.path.split("/"));
    if (existsSync(target) && statSync(target).size === file.size) continue;
    const url = `${hubUrl(options)}/${reference.repository}/resolve/${encodeURIComponent(reference.revision)}/${file.path.split("/").map(encodeURIComponent).join("/")}`;
    await download(
      { url, size: file.size, sha256: file.lfs?.oid, headers: token() ? { authorization: `Bearer ${token()}` } : {} },
      target,
      options,
    );
  }
  if (reference.file === null)
    await writeFile(
      join(directory, COMPLETE),
      `${JSON.stringify(Object.fromEntries(chosen.map((file) => [file.path, file.size])))}\n`,
    );
  return path;
}

async function filesOf(
  { repository, file, revision }: HubReference,
  spelled: string,
  options: HubOptions,
): Promise<ListFileEntry[]> {
  const folder = file?.includes("/") ? file.slice(0, file.lastIndexOf("/")) : undefined;
  const listed: ListFileEntry[] = [];
  const access = token() ? { accessToken: token()! } : {};
  const fetching: typeof fetch = (input, init) => (options.fetch ?? fetch)(input, { ...init, signal: options.signal });
  try {
    for await (const entry of listFiles({
      repo: repository,
      path: folder,
      revision: encodeURIComponent(revision),
      hubUrl: hubUrl(options),
      fetch: fetching,
      ...access,
    })) {
      if (entry.type === "file") listed.push(entry);
    }
    return listed;
  } catch (error) {
    if (options.signal?.aborted)
      throw new LongctxError("aborted", `The download of ${spelled} was stopped.`, { cause: error });
    const status = error instanceof HubApiError ? error.statusCode : null;
    // The Hub answers 401 also for repositories that do not exist.
    const reason =
      status === 404
        ? "there is no such model or revision (404)"
        : status === 401 || status === 403
          ? `there is no such model, or it is gated and needs HF_TOKEN (${status})`
          : reasonOf(error);
    throw new LongctxError("network", `Cannot fetch ${spelled} from ${hubUrl(options)}: ${reason}.`, { cause: error });
  }
}

function choose(files: readonly ListFileEntry[], reference: HubReference, spelled: string): ListFileEntry[] {
  if (reference.file !== null) {
    const one = files.filter((file) => file.path === reference.file);
    if (one.length === 0)
      throw new LongctxError("argument", `${spelled} is not there; the folder has ${ggufs(files) || "no .gguf file"}.`);
    return one;
  }
  const whole = files.filter((file) => file.path === "model.safetensors");
  const weights =
    whole.length > 0
      ? whole
      : files.filter((file) => SHARD.test(file.path) || file.path === "model.safetensors.index.json");
  if (weights.length === 0) {
    const others = ggufs(files);
    throw new LongctxError(
      "argument",
      `${spelled} has no model.safetensors${others ? `; name one of its files: ${others}` : ""}.`,
    );
  }
  return [...files.filter((file) => DESCRIPTIONS.has(file.path)), ...weights];
}

function ggufs(files: readonly ListFileEntry[]): string {
  return files
    .filter((file) => file.path.endsWith(".gguf"))
    .map((file) => file.path)
    .slice(0, 20)
    .join(", ");
}

function isComplete(directory: string): boolean {
  try {
    const sizes: unknown = JSON.parse(readFileSync(join(directory, COMPLETE), "utf8"));
    return (
      isObject(sizes) && Object.entries(sizes).every(([path, size]) => statSync(join(directory, path)).size === size)
    );
  } catch {
    return false;
  }
}

function hubUrl(options: HubOptions): string {
  return (options.hubUrl ?? (process.env["HF_ENDPOINT"] || "https://huggingface.co")).replace(/\/+$/, "");
}

function token(): string | undefined {
  const value = process.env["HF_TOKEN"];
  return value?.startsWith("hf_") ? value : undefined;
}
