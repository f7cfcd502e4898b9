import { ftruncateSync, openSync, closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openSafetensors, openShardedSafetensors } from "../src/checkpoint/disk.ts";
import { floats } from "./gguf-builder.ts";
import { buildSafetensors } from "./safetensors-builder.ts";
import { refusalOf, scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const vector = { dtype: "F32", shape: [4], bytes: floats([1, -2, 3, 0.1]) };
const halves = {
  dtype: "F16",
  shape: [2, 2],
  bytes: new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff).buffer),
};
const brains = { dtype: "BF16", shape: [2], bytes: new Uint8Array(Uint16Array.of(0x3f80, 0xc2f7).buffer) };
const ids = { dtype: "I64", shape: [1], bytes: new Uint8Array(8) };

test("F32, F16 and BF16 are read; other types are only named", () => {
  const file = openSafetensors(scratch.write("types.safetensors", buildSafetensors({ vector, halves, brains, ids })));
  expect([...file.tensors.keys()]).toEqual(["vector", "halves", "brains"]);
  expect(file.unreadable).toEqual(new Map([["ids", "I64"]]));
  expect(file.tensors.get("vector")!.toFloat32()).toEqual(Float32Array.of(1, -2, 3, 0.1));
  expect(file.tensors.get("halves")).toMatchObject({ type: "F16", shape: [2, 2] });
  expect(file.tensors.get("halves")!.toFloat32()).toEqual(Float32Array.of(1, -2, 2 ** -24, 65_504));
  expect(file.tensors.get("brains")!.toFloat32()).toEqual(Float32Array.of(1, -123.5));
  file.close();
});

test("a file larger than 2^31 bytes is opened and read in places", () => {
  // A hole in the middle: the file takes a few kilobytes of the disk.
  const size = 2 ** 32;
  const header = Buffer.from(
    JSON.stringify({
      hole: { dtype: "F32", shape: [2 ** 15, 2 ** 15], data_offsets: [0, size] },
      end: { dtype: "F32", shape: [2], data_offsets: [size, size + 8] },
    }),
  );
  const path = join(scratch.path, "large.safetensors");
  const descriptor = openSync(path, "w");
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  writeSync(descriptor, Buffer.concat([prefix, header]), 0, 8 + header.length, 0);
  ftruncateSync(descriptor, 8 + header.length + size);
  writeSync(descriptor, floats([5, 6]), 0, 8, 8 + header.length + size);
  closeSync(descriptor);
  const before = process.memoryUsage().rss;
  const file = openSafetensors(path);
  expect(file.tensors.get("end")!.toFloat32()).toEqual(Float32Array.of(5, 6));
  expect(
    file.tensors
      .get("hole")!
      .rows(2 ** 14, 2 ** 14 + 1)
      .every((byte) => byte === 0),
  ).toBe(true);
  expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
  file.close();
});

describe("a safetensors file that lies", () => {
  const edited = (change: object) => (own: Record<string, unknown>) => ({
    ...own,
    vector: { ...(own["vector"] as object), ...change },
  });
  test.each<[string, Buffer, string]>([
    ["nothing", Buffer.alloc(0), "too few"],
    ["seven bytes", Buffer.alloc(7), "too few"],
    ["a header of a terabyte", buildSafetensors({ vector }, undefined, 1n << 40n), `header of ${1n << 40n} bytes`],
    [
      "a header of 2^64 − 1",
      buildSafetensors({ vector }, undefined, (1n << 64n) - 1n),
      `header of ${(1n << 64n) - 1n} bytes`,
    ],
    [
      "a header a byte too long",
      Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("{}")]),
      "header of 3 bytes",
    ],
    ["no JSON", buildSafetensors({ vector }, () => '{"vector": '), "not JSON"],
    ["a list", buildSafetensors({ vector }, () => "[]"), "not a JSON object"],
    ["a tensor that is a number", buildSafetensors({ vector }, () => ({ vector: 1 })), '"vector" is not described'],
    ["an unknown type", buildSafetensors({ vector }, edited({ dtype: "F33" })), 'unknown type "F33"'],
    ["a type of the prototype", buildSafetensors({ vector }, edited({ dtype: "toString" })), "unknown type"],
    ["no shape", buildSafetensors({ vector }, edited({ shape: undefined })), "no shape"],
    ["a negative size", buildSafetensors({ vector }, edited({ shape: [-2, -2] })), "impossible shape [-2, -2]"],
    ["half a size", buildSafetensors({ vector }, edited({ shape: [1.5] })), "impossible shape"],
    ["a product beyond 2^53", buildSafetensors({ vector }, edited({ shape: [2 ** 27, 2 ** 27] })), "impossible shape"],
    [
      "a product that wraps to 0",
      buildSafetensors({ vector }, edited({ shape: [2 ** 32, 2 ** 32, 0] })),
      "impossible shape",
    ],
    ["a larger shape", buildSafetensors({ vector }, edited({ shape: [5] })), "20 bytes, but a place of 16 bytes"],
    [
      "a place behind the end",
      buildSafetensors({ vector }, edited({ shape: [8], data_offsets: [0, 32] })),
      "ends at byte 32",
    ],
    ["a place from back to front", buildSafetensors({ vector }, edited({ data_offsets: [16, 0] })), "impossible place"],
    ["a negative place", buildSafetensors({ vector }, edited({ data_offsets: [-16, 0] })), "impossible place"],
    [
      "a place at 2^53",
      buildSafetensors({ vector }, edited({ data_offsets: [2 ** 53, 2 ** 53 + 16] })),
      "impossible place",
    ],
    [
      "two tensors in one place",
      buildSafetensors({ vector, ids }, (own) => ({ ...own, ids: { dtype: "I64", shape: [1], data_offsets: [0, 8] } })),
      "begins at byte 0",
    ],
    [
      "overlapping tensors",
      buildSafetensors({ vector, other: vector }, edited({ data_offsets: [8, 24] })),
      "begins at byte 8",
    ],
    ["bytes nobody owns", Buffer.concat([buildSafetensors({ vector }), Buffer.alloc(4)]), "tensors end at 16"],
  ])("%s", async (_, content, message) => {
    const path = scratch.write("lie.safetensors", content);
    const start = performance.now();
    const error = await refusalOf(() => openSafetensors(path));
    expect(performance.now() - start).toBeLessThan(500);
    expect(error.code).toBe("file");
    expect(error.message).toContain(path);
    expect(error.message).toContain(message);
  });
});

describe("shards", () => {
  scratch.write("a-1-of-2.safetensors", buildSafetensors({ vector, ids }));
  scratch.write("a-2-of-2.safetensors", buildSafetensors({ halves }));
  const index = (map: unknown) =>
    scratch.write("model.safetensors.index.json", JSON.stringify({ metadata: {}, weight_map: map }));
  const right = { vector: "a-1-of-2.safetensors", halves: "a-2-of-2.safetensors", ids: "a-1-of-2.safetensors" };

  test("are read as one file", async () => {
    const file = await openShardedSafetensors(index(right));
    expect([...file.tensors.keys()]).toEqual(["vector", "halves"]);
    expect([...file.unreadable.keys()]).toEqual(["ids"]);
    expect(file.tensors.get("halves")!.toFloat32()[1]).toBe(-2);
    file.close();
    expect(() => file.tensors.get("vector")!.bytes()).toThrow("was closed");
  });

  test.each<[string, unknown, string]>([
    ["without a map", undefined, "no weight_map"],
    ["with a list", [], "no weight_map"],
    ["with a number for a file", { vector: 1 }, "puts vector into 1"],
    [
      "that climb out of the folder",
      { vector: "../secret.safetensors" },
      "not the name of a .safetensors file beside it",
    ],
    ["on an absolute path", { vector: "/etc/passwd" }, "not the name"],
    ["that are missing", { vector: "a-3-of-2.safetensors" }, "does not exist"],
    [
      "that hold something else",
      { ...right, vector: "a-2-of-2.safetensors" },
      "says that a-2-of-2.safetensors holds vector",
    ],
  ])("%s are refused", async (_, map, message) => {
    const error = await refusalOf(() => openShardedSafetensors(index(map)));
    expect(error.code).toBe("file");
    expect(error.message).toContain(message);
  });
});
