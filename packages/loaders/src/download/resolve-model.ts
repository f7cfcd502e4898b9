import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { LongctxError, listed } from "@longctx/core";
import { fetchFromHub, parseHubReference, type HubOptions } from "./hub.ts";
import { FETCHABLE_MODELS, findSmolLM2 } from "./smollm2.ts";

/**
 * The local path of a model, a checkpoint folder or a .gguf file. `reference` is a path, `smollm2` (which has to be
 * fetched before), or `hf:org/name[@revision]` or `hf:org/name/file.gguf[@revision]`, which is fetched when the cache
 * does not have it. Only `hf:` uses the network, unless `offline` is set.
 * @throws LongctxError "file" when there is no such path, "argument" for a malformed reference, "network" when the
 * model cannot be fetched, "aborted" on the signal
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
