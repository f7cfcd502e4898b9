import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { LongctxError } from "@longctx/core";
import { CheckedSource } from "../common/byte-source.ts";
import { beginsLikeGguf, openFolder, openGgufFile, type Checkpoint, type CheckpointOptions } from "./checkpoint.ts";
import type { Folder } from "../common/folder.ts";
import { readGguf, type GgufFile } from "../gguf/file.ts";
import { readShardedSafetensors } from "../hugging-face/safetensors-index.ts";
import { readSafetensors, type SafetensorsFile } from "../hugging-face/safetensors.ts";
import { readTokenizer, type LoadedTokenizer } from "../tokenizer/tokenizer-folder.ts";

/** Bytes of one read; operating systems refuse reads of 2^31 bytes and more. */
const MAX_READ = 2 ** 30;

/** A file on disk, held by a file descriptor; opening it reads nothing. */
export class DiskFile extends CheckedSource {
  readonly #descriptor: number;

  /** @throws LongctxError "file" when there is no such file */
  constructor(path: string) {
    const { descriptor, size } = openFile(path);
    super(path, size);
    this.#descriptor = descriptor;
  }

  protected fill(target: Uint8Array, offset: number): void {
    for (let done = 0; done < target.length;) {
      const most = Math.min(MAX_READ, target.length - done);
      const count = readSync(this.#descriptor, target, done, most, offset + done);
      if (count === 0)
        throw new LongctxError(
          "file",
          `${this.path} became shorter than ${this.size} bytes while it was open. Download or copy it again.`,
        );
      done += count;
    }
  }

  protected release(): void {
    closeSync(this.#descriptor);
  }
}

function openFile(path: string): { descriptor: number; size: number } {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === "ENOENT"
        ? "does not exist"
        : `cannot be opened (${(cause as Error).message})`;
    throw new LongctxError("file", `${path} ${reason}.`, { cause });
  }
  const stat = fstatSync(descriptor);
  if (stat.isFile()) return { descriptor, size: stat.size };
  closeSync(descriptor);
  throw new LongctxError(
    "file",
    `${path} is not a file. Give the path of a .gguf or .safetensors file, or of a model folder.`,
  );
}

class DiskFolder implements Folder {
  readonly path: string;
  readonly names: readonly string[];

  constructor(path: string) {
    this.path = path;
    this.names = readdirSync(path);
  }

  placeOf(name: string): string {
    return join(this.path, name);
  }

  async open(name: string): Promise<DiskFile> {
    return new DiskFile(this.placeOf(name));
  }
}

/**
 * Opens a .gguf file, a .safetensors file beside its config.json, or a folder in Hugging Face's layout.
 * `openCheckpoint` reads headers, description and tokenizer, and checks that every weight the model needs is there and
 * has its shape.
 * @throws LongctxError "file" for missing or damaged files, "config" for a model that longctx does not have
 */
export async function openCheckpoint(path: string, options: CheckpointOptions = {}): Promise<Checkpoint> {
  if (!existsSync(path))
    throw new LongctxError(
      "file",
      `${path} does not exist. Give the path of a .gguf or .safetensors file, or of a model folder.`,
    );
  if (statSync(path).isDirectory()) return openFolder(new DiskFolder(path), options);
  if (path.endsWith(".safetensors"))
    return { ...(await openFolder(new DiskFolder(dirname(path)), options, basename(path))), path };
  const file = new DiskFile(path);
  // Some tools name GGUF files by their hash, without an extension.
  if (path.endsWith(".gguf") || beginsLikeGguf(file)) return openGgufFile(file, options);
  file.close();
  throw new LongctxError(
    "file",
    `${path} is neither a .gguf nor a .safetensors file nor a model folder; longctx opens these three.`,
  );
}

/** Opens a GGUF file on disk. @throws as `readGguf` */
export function openGguf(path: string): GgufFile {
  return readGguf(new DiskFile(path));
}

/** Opens a safetensors file on disk. @throws as `readSafetensors` */
export function openSafetensors(path: string): SafetensorsFile {
  return readSafetensors(new DiskFile(path));
}

/** Opens all shards that a `model.safetensors.index.json` names, as one file. @throws as `readShardedSafetensors` */
export function openShardedSafetensors(indexPath: string): Promise<SafetensorsFile> {
  return readShardedSafetensors(new DiskFolder(dirname(indexPath)), basename(indexPath));
}

/** Reads the tokenizer and the chat template of a checkpoint folder; null when the folder has no tokenizer.json. */
export function loadTokenizerFolder(directory: string): Promise<LoadedTokenizer | null> {
  return readTokenizer(new DiskFolder(directory));
}
