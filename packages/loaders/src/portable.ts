// What runs in Node and in browsers alike. In a browser this is the whole package (the condition `browser` in package.json).
export { openFiles } from "./blobs.ts";
export type { ByteSource } from "./byte-source.ts";
export { expectedShapes, weightsFromGguf, weightsFromSafetensors } from "./canonical-weights.ts";
export { chatTemplate } from "./chat-template.ts";
export type { Checkpoint, CheckpointOptions } from "./checkpoint.ts";
export { dequantise } from "./dequantise.ts";
export type { DownloadOptions, DownloadProgress } from "./download-options.ts";
export { fetchFile } from "./fetch-file.ts";
export { configFromGguf, GGUF_ARCHITECTURES } from "./gguf-config.ts";
export { tokenizerFromGguf } from "./gguf-tokenizer.ts";
export { readGguf, type GgufArray, type GgufFile, type GgufMetadata, type GgufValue } from "./gguf.ts";
export { configFromHuggingFace, HUGGING_FACE_MODEL_TYPES } from "./hf-config.ts";
export { readSafetensors, type SafetensorsFile } from "./safetensors.ts";
export { StoredTensor } from "./stored-tensor.ts";
export { TENSOR_LAYOUTS, type TensorLayout } from "./tensor-layout.ts";
export { tokenizerFromJson } from "./tokenizer.ts";
export type { LoadedTokenizer } from "./tokenizer-folder.ts";
