import { LongctxError } from "@longctx/core";
import type { Folder } from "../common/folder.ts";
import { readJson } from "../common/json.ts";
import { readSafetensors, type SafetensorsFile } from "./safetensors.ts";
import type { StoredTensor } from "../tensor/stored-tensor.ts";

/** The limit of shards, each of which takes a file descriptor; the largest published checkpoints have a few hundred. */
const MAX_SHARDS = 1000;

/** The name of a shard has no folder, so that an index of unknown origin cannot name files elsewhere on the machine. */
const SHARD_NAME = /^[^/\\]+\.safetensors$/;

/**
 * Opens all shards that a `model.safetensors.index.json` names, as one file.
 * @throws LongctxError "file" when a shard is missing, or does not hold a tensor that the index places in it
 */
export async function readShardedSafetensors(folder: Folder, indexName: string): Promise<SafetensorsFile> {
  const indexPath = folder.placeOf(indexName);
  const index = await readJson(folder, indexName, "file");
  const map = index["weight_map"];
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw new LongctxError("file", `${indexPath} has no weight_map. It is no index of safetensors shards.`);
  const shardOf = Object.entries(map as Record<string, unknown>);
  const shards = new Map<string, SafetensorsFile>();
  const close = () => shards.forEach((shard) => shard.close());
  try {
    const tensors = new Map<string, StoredTensor>();
    const unreadable = new Map<string, string>();
    for (const [name, file] of shardOf) {
      if (typeof file !== "string" || !SHARD_NAME.test(file)) {
        throw new LongctxError(
          "file",
          `${indexPath} puts ${name} into ${JSON.stringify(file)}, which is not the name of a .safetensors file beside it.`,
        );
      }
      let shard = shards.get(file);
      if (!shard) {
        if (shards.size === MAX_SHARDS)
          throw new LongctxError("file", `${indexPath} names more than ${MAX_SHARDS} shards.`);
        shard = readSafetensors(await folder.open(file));
        shards.set(file, shard);
      }
      const tensor = shard.tensors.get(name);
      const type = shard.unreadable.get(name);
      if (tensor) tensors.set(name, tensor);
      else if (type) unreadable.set(name, type);
      else
        throw new LongctxError(
          "file",
          `${indexPath} says that ${file} holds ${name}, but it does not. Download the shards and the index again.`,
        );
    }
    return { path: indexPath, tensors, unreadable, close };
  } catch (error) {
    close();
    throw error;
  }
}
