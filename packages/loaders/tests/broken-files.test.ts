import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LongctxError } from "@longctx/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openCheckpoint, openGguf, openSafetensors } from "../src/checkpoint/disk.ts";
import { buildGguf } from "./gguf-builder.ts";
import { convertedMetadata, convertedTensors, goldenFolder } from "./model-files.ts";
import { scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const folder = goldenFolder("llama-bias");
const safetensors = readFileSync(join(folder, "model.safetensors"));
const tokens = { "tokenizer.ggml.tokens": { texts: Array.from({ length: 256 }, (_, i) => `token ${i}`) } };
const gguf = buildGguf({
  metadata: { ...convertedMetadata(folder, "llama"), ...tokens },
  tensors: convertedTensors(folder, "llama"),
});
const config = readFileSync(join(folder, "config.json"), "utf8");

/** Whether it opens, or the code it is refused with; everything but a LongctxError is a defect and passes through. */
async function outcome(open: () => unknown): Promise<string> {
  try {
    ((await open()) as { close(): void }).close();
    return "open";
  } catch (error) {
    if (!(error instanceof LongctxError)) throw error;
    return error.code;
  }
}

/** Cut points everywhere, most of them in the header, where the decisions are. */
const cuts = (length: number, header: number) =>
  fc.oneof({ weight: 3, arbitrary: fc.nat(header) }, { weight: 1, arbitrary: fc.nat(length - 1) });

describe("a file that is cut off anywhere", () => {
  test("safetensors", async () => {
    const header = 8 + Number(safetensors.readBigUInt64LE(0));
    const property = fc.asyncProperty(cuts(safetensors.length, header), async (cut) => {
      expect(await outcome(() => openSafetensors(scratch.write("cut.safetensors", safetensors.subarray(0, cut))))).toBe(
        "file",
      );
    });
    await fc.assert(property, { numRuns: 300 });
    expect(await outcome(() => openSafetensors(scratch.write("whole.safetensors", safetensors)))).toBe("open");
  });

  test("GGUF", async () => {
    const property = fc.asyncProperty(cuts(gguf.length, 12_000), async (cut) => {
      expect(await outcome(() => openGguf(scratch.write("cut.gguf", gguf.subarray(0, cut))))).toBe("file");
    });
    await fc.assert(property, { numRuns: 300 });
    expect(await outcome(() => openGguf(scratch.write("whole.gguf", gguf)))).toBe("open");
  });

  test("config.json", async () => {
    scratch.write("model.safetensors", safetensors);
    const property = fc.asyncProperty(fc.nat(config.trimEnd().length - 1), async (cut) => {
      scratch.write("config.json", config.slice(0, cut));
      expect(await outcome(() => openCheckpoint(scratch.path))).toBe("config");
    });
    await fc.assert(property, { numRuns: 50 });
    scratch.write("config.json", config);
    expect(await outcome(() => openCheckpoint(join(scratch.path, "model.safetensors")))).toBe("open");
  });
});

/** Bytes overwritten in a header: whatever they say, the file opens or is refused, quickly. */
describe("a header with changed bytes", () => {
  const changes = (header: number) =>
    fc.array(fc.tuple(fc.nat(header - 1), fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 127, 128, 255))), {
      minLength: 1,
      maxLength: 12,
    });
  const changed = (file: Buffer, bytes: readonly (readonly [number, number])[]) => {
    const copy = Buffer.from(file);
    for (const [at, byte] of bytes) copy[at] = byte;
    return copy;
  };

  test("GGUF", async () => {
    const property = fc.asyncProperty(changes(12_000), async (bytes) => {
      const start = performance.now();
      expect(["open", "file", "config"]).toContain(
        await outcome(() => openCheckpoint(scratch.write("changed.gguf", changed(gguf, bytes)))),
      );
      expect(performance.now() - start).toBeLessThan(2000);
    });
    await fc.assert(property, { numRuns: 400 });
  });

  test("safetensors", async () => {
    const header = 8 + Number(safetensors.readBigUInt64LE(0));
    scratch.write("config.json", config);
    const property = fc.asyncProperty(changes(header), async (bytes) => {
      expect(["open", "file"]).toContain(
        await outcome(() => openCheckpoint(scratch.write("changed.safetensors", changed(safetensors, bytes)))),
      );
    });
    await fc.assert(property, { numRuns: 300 });
  });
});

test("a config of anything is a config or a refusal", async () => {
  scratch.write("any.safetensors", safetensors);
  const known = JSON.parse(config) as Record<string, unknown>;
  const names = [
    ...Object.keys(known),
    "rope_scaling",
    "sliding_window",
    "layer_types",
    "partial_rotary_factor",
    "quantization_config",
  ];
  const odd = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom(0, -1, 0.5, 2 ** 31, 2 ** 53, 1e308, 3, 7),
    fc.constantFrom("llama", "phi3", "qwen3", "mistral", "yarn"),
  );
  const property = fc.asyncProperty(
    fc.dictionary(fc.constantFrom(...names), odd, { minKeys: 1, maxKeys: 4 }),
    async (fields) => {
      scratch.write("config.json", JSON.stringify({ ...known, ...fields }));
      expect(["open", "file", "config"]).toContain(
        await outcome(() => openCheckpoint(join(scratch.path, "any.safetensors"))),
      );
    },
  );
  await fc.assert(property, { numRuns: 500 });
});
