// The package's entry in Node: what portable.ts exports, files on disk, and downloads.
export * from "./portable.ts";
export {
  DiskFile,
  loadTokenizerFolder,
  openCheckpoint,
  openGguf,
  openSafetensors,
  openShardedSafetensors,
} from "./checkpoint/disk.ts";
export { cacheDirectory, download, type RemoteFile } from "./download/download.ts";
export { fetchFromHub, parseHubReference, type HubOptions, type HubReference } from "./download/hub.ts";
export { resolveModel } from "./download/resolve-model.ts";
export { FETCHABLE_MODELS, fetchModel, findSmolLM2, type FetchableModel } from "./download/smollm2.ts";
