// In Node; browsers get portable.ts.
export * from "./portable.ts";
export { cacheDirectory } from "./cache-directory.ts";
export {
  DiskFile,
  loadTokenizerFolder,
  openCheckpoint,
  openGguf,
  openSafetensors,
  openShardedSafetensors,
} from "./disk.ts";
export { download, type RemoteFile } from "./download.ts";
export { fetchFromHub, parseHubReference, type HubOptions, type HubReference } from "./hub.ts";
export { resolveModel } from "./resolve-model.ts";
export { FETCHABLE_MODELS, fetchModel, findSmolLM2, type FetchableModel } from "./smollm2.ts";
