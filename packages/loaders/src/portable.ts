// The exports that run in Node and in browsers; the condition `browser` in package.json makes this the package's entry
// there.
export { openFiles } from "./checkpoint/blobs.ts";
export type { ByteSource } from "./common/byte-source.ts";
export { expectedShapes, weightsFromGguf, weightsFromSafetensors } from "./checkpoint/canonical-weights.ts";
export { chatTemplate } from "./tokenizer/chat-template.ts";
export type { Checkpoint, CheckpointOptions } from "./checkpoint/checkpoint.ts";
export { dequantise } from "./tensor/dequantise.ts";
export type { DownloadOptions, DownloadProgress } from "./download/options.ts";
export { fetchFile } from "./download/fetch-file.ts";
export { configFromGguf, GGUF_ARCHITECTURES } from "./gguf/config.ts";
export { tokenizerFromGguf } from "./gguf/tokenizer.ts";
export { readGguf, type GgufFile } from "./gguf/file.ts";
export type { GgufArray, GgufMetadata, GgufValue } from "./gguf/reader.ts";
export { configFromHuggingFace, HUGGING_FACE_MODEL_TYPES } from "./hugging-face/config.ts";
export { readSafetensors, type SafetensorsFile } from "./hugging-face/safetensors.ts";
export { StoredTensor } from "./tensor/stored-tensor.ts";
export { TENSOR_LAYOUTS, type TensorLayout } from "./tensor/tensor-layout.ts";
export { tokenizerFromJson } from "./tokenizer/tokenizer.ts";
export type { LoadedTokenizer } from "./tokenizer/tokenizer-folder.ts";
