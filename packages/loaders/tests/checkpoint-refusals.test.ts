import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../src/checkpoint/disk.ts";
import { buildGguf, floats } from "./gguf-builder.ts";
import { convertedMetadata, convertedTensors, goldenFolder, rawTensors, readConfig } from "./model-files.ts";
import { buildSafetensors } from "./safetensors-builder.ts";
import { refusalOf, scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();

describe("what cannot be opened", () => {
  const folder = (name: string, files: Record<string, string | Uint8Array>) => {
    mkdirSync(join(scratch.path, name));
    for (const [file, content] of Object.entries(files)) scratch.write(join(name, file), content);
    return join(scratch.path, name);
  };
  const llama = goldenFolder("llama");
  const tensors = () =>
    Object.fromEntries(
      [...rawTensors(llama)].map(([name, { shape, values }]) => [name, { dtype: "F32", shape, bytes: floats(values) }]),
    );
  const config = (change: object) => JSON.stringify({ ...readConfig(llama), ...change });

  test.each<[string, () => string, string, string]>([
    ["nothing there", () => join(scratch.path, "nowhere"), "file", "does not exist"],
    ["an empty folder", () => folder("empty", {}), "file", "no .safetensors file"],
    [
      "a folder of pickles",
      () => folder("pickles", { "config.json": "{}", "pytorch_model.bin": "" }),
      "file",
      "pytorch_model.bin is not read; convert it",
    ],
    ["a folder of GGUF files", () => folder("ggufs", { "a.gguf": "", "b.gguf": "" }), "file", "a.gguf, b.gguf"],
    [
      "shards without an index",
      () => folder("loose", { "a.safetensors": "", "b.safetensors": "" }),
      "file",
      "2 .safetensors files and no index",
    ],
    ["no config", () => folder("bare", { "model.safetensors": buildSafetensors({}) }), "file", "no config.json"],
    [
      "a config that is no JSON",
      () => folder("text", { "model.safetensors": buildSafetensors({}), "config.json": '{"rms_norm_eps": NaN}' }),
      "config",
      "not JSON",
    ],
    [
      "a config that is a list",
      () => folder("list", { "model.safetensors": buildSafetensors({}), "config.json": "[]" }),
      "config",
      "no JSON object",
    ],
    [
      "another kind of file",
      () => scratch.write("photo.png", "PNG"),
      "file",
      "neither a .gguf nor a .safetensors file",
    ],
    [
      "a config of another model",
      () =>
        folder("other", {
          "model.safetensors": buildSafetensors(tensors()),
          "config.json": config({ intermediate_size: 96 }),
        }),
      "file",
      "belong together",
    ],
    [
      "a layer too few",
      () =>
        folder("short", {
          "model.safetensors": buildSafetensors(tensors()),
          "config.json": config({ num_hidden_layers: 4 }),
        }),
      "file",
      "no tensor for layers.3.",
    ],
    [
      "a bias that is not there",
      () =>
        folder("biased", {
          "model.safetensors": buildSafetensors(tensors()),
          "config.json": config({ attention_bias: true }),
        }),
      "file",
      "layers.0.query.bias",
    ],
    [
      "eight-bit weights",
      () =>
        folder("fp8", {
          "model.safetensors": buildSafetensors({
            ...tensors(),
            "model.norm.weight": { dtype: "F8_E4M3", shape: [64], bytes: new Uint8Array(64) },
          }),
          "config.json": config({}),
        }),
      "file",
      "model.norm.weight is stored as F8_E4M3",
    ],
  ])("%s", async (_, make, code, message) => {
    const error = await refusalOf(() => openCheckpoint(make()));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  test("a GGUF file without an ending of its name is known by its magic", async () => {
    const path = scratch.write(
      "sha256-abc",
      buildGguf({ metadata: convertedMetadata(llama, "llama"), tensors: convertedTensors(llama, "llama") }),
    );
    const { format, close } = await openCheckpoint(path);
    expect(format).toBe("gguf");
    close();
  });
});
