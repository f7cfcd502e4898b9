import { existsSync, readFileSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HubApiError, listFiles, type ListFileEntry } from "@huggingface/hub";
import { LongctxError } from "@longctx/core";
import type { DownloadOptions } from "./options.ts";
import { cacheDirectory, download, reasonOf } from "./download.ts";
import { isObject } from "../common/json.ts";

export interface HubOptions extends DownloadOptions {
  /** Answer from the cache or fail. */
  readonly offline?: boolean;
  /** Default HF_ENDPOINT, else https://huggingface.co. */
  readonly hubUrl?: string;
}

/** `hf:org/name`, `hf:org/name/file.gguf`, either with `@revision` behind. */
export interface HubReference {
  readonly repository: string;
  /** null for the whole checkpoint. */
  readonly file: string | null;
  readonly revision: string;
}

const NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
const REFERENCE = new RegExp(
  `^hf:(${NAME}/${NAME})(?:/((?:${NAME}/)*${NAME}\\.gguf))?(?:@([A-Za-z0-9_][A-Za-z0-9_./-]*))?$`,
);

/** What of a checkpoint is fetched beside its weights, where the repository has it. */
const DESCRIPTIONS: ReadonlySet<string> = new Set([
  "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
  "chat_template.jinja", "chat_template.json",
]); // prettier-ignore
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/;

/** Written last into the folder of a checkpoint: the sizes of all its files. */
const COMPLETE = "longctx-complete.json";

/** @throws LongctxError "argument" */
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
 * The path of a model of the Hugging Face Hub in the cache: a folder, or a .gguf file. What is not there yet is fetched:
 * config, tokenizer and safetensors with all shards, or the one file. What was fetched whole is not asked for again,
 * also when the revision is a branch that moved on. HF_TOKEN gives access to gated models.
 * @throws LongctxError "network" when it cannot be fetched, "argument" when the reference or the repository names no model, "aborted"
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
    // The Hub answers 401 for repositories that do not exist, too.
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
