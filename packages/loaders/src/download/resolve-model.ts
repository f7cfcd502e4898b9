import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { LongctxError, listed } from "@longctx/core";
import { fetchFromHub, parseHubReference, type HubOptions } from "./hub.ts";
import { FETCHABLE_MODELS, findSmolLM2 } from "./smollm2.ts";

/**
 * The local path of a model: a checkpoint folder or a .gguf file. `reference` is a path, `smollm2` (once fetched), or
 * `hf:org/name[@revision]` or `hf:org/name/file.gguf[@revision]`, which is fetched into the cache when it is not there.
 * Only `hf:` uses the network, and not with `offline`.
 * @throws LongctxError "file" when there is no such path, "argument" for a malformed reference, "network", "aborted"
 */
export async function resolveModel(reference: string, options: HubOptions = {}): Promise<string> {
  if (reference.startsWith("hf:")) return await fetchFromHub(parseHubReference(reference), options);
  if (reference === "smollm2") {
    const found = findSmolLM2();
    if (found) return found;
    throw new LongctxError(
      "file",
      "smollm2 is not on this machine; fetch it (98 MB) with `longctx fetch smollm2`, or set LONGCTX_SMOLLM2 to its .gguf file.",
    );
  }
  const path = resolve(reference);
  if (reference === "" || !existsSync(path))
    throw new LongctxError(
      "file",
      `There is no model at ${JSON.stringify(reference)}; give a folder, a .gguf file, hf:org/name or ${listed(FETCHABLE_MODELS)}.`,
    );
  return path;
}
