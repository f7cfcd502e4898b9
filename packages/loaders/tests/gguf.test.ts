import { readFileSync, truncateSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openGguf } from "../src/checkpoint/disk.ts";
import { buildGguf, type BuiltGguf, type BuiltTensor, floats, text, u32, u64 } from "./gguf-builder.ts";
import { refusalOf, scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const data = (name: string) => fileURLToPath(new URL(`data/${name}`, import.meta.url));

describe("a file of the gguf package's own writer", () => {
  test("has every value type of the metadata", () => {
    const { metadata, version, close } = openGguf(data("every-type.gguf"));
    close();
    expect(version).toBe(3);
    expect(Object.fromEntries(metadata)).toMatchObject({
      "general.architecture": "llama",
      "test.uint8": 250,
      "test.int8": -100,
      "test.uint16": 65_000,
      "test.int16": -30_000,
      "test.uint32": 4_000_000_000,
      "test.int32": -2_000_000_000,
      "test.float32": Math.fround(0.1),
      "test.uint64": 2 ** 40,
      "test.uint64.large": 2n ** 64n - 1n,
      "test.int64": -(2 ** 40),
      "test.float64": 0.1,
      "test.bool": true,
      "test.string": "\ufeffÄpfel 🍎\n",
      "test.strings": ["a", "", "\ufeff", "Ġthe"],
      "test.floats": Float32Array.of(0.5, -1.5),
      "test.bools": [true, false],
      "test.int64s": [1, -(2n ** 60n)],
      "test.nested": [Int32Array.of(1, 2), Int32Array.of(3)],
    });
  });

  test("has its tensors, dequantised", () => {
    const { tensors, close } = openGguf(data("every-type.gguf"));
    const expected = JSON.parse(readFileSync(data("every-type.json"), "utf8")) as Record<string, string>;
    expect([...tensors.keys()]).toEqual(Object.keys(expected).map((type) => `test.${type}`));
    for (const [type, values] of Object.entries(expected)) {
      const tensor = tensors.get(`test.${type}`)!;
      expect(tensor).toMatchObject({ type, shape: [3, 64] });
      expect(tensor.toFloat32()).toEqual(new Float32Array(new Uint8Array(Buffer.from(values, "base64")).buffer));
      expect(Buffer.concat([tensor.rows(0, 1), tensor.rows(1, 3)])).toEqual(Buffer.from(tensor.bytes()));
    }
    close();
  });
});

const vector: BuiltTensor = { name: "a", shape: [4], type: 0, bytes: floats([1, 2, 3, 4]) };
const matrix: BuiltTensor = { name: "b", shape: [2, 32], type: 8, bytes: new Uint8Array(68).fill(1) };

test("version 2 is read as version 3 is", () => {
  const file = openGguf(scratch.write("v2.gguf", buildGguf({ version: 2, tensors: [vector, matrix] })));
  expect(file.version).toBe(2);
  expect(file.tensors.get("a")!.toFloat32()).toEqual(Float32Array.of(1, 2, 3, 4));
  file.close();
});

test("a header is read in chunks, whatever their borders cut", () => {
  const texts = Array.from({ length: 30_000 }, (_, i) => `${"é".repeat(i % 37)}${i}`);
  const file = openGguf(
    scratch.write("long.gguf", buildGguf({ metadata: { texts: { texts }, last: { text: "end" } }, tensors: [vector] })),
  );
  expect(file.metadata.get("texts")).toEqual(texts);
  expect(file.metadata.get("last")).toBe("end");
  expect(file.tensors.get("a")!.toFloat32()).toEqual(Float32Array.of(1, 2, 3, 4));
  file.close();
});

test("a tensor of 100 GB is opened at once, but is no single array", async () => {
  const shape = [25_000_000, 1000];
  const path = scratch.write("vast.gguf", buildGguf({ tensors: [{ ...vector, shape }] }));
  truncateSync(path, 100_000_000_128); // a hole: it takes no room on the disk
  const before = process.memoryUsage().rss;
  const start = performance.now();
  const file = openGguf(path);
  expect(performance.now() - start).toBeLessThan(200);
  expect(process.memoryUsage().rss - before).toBeLessThan(50e6);
  const tensor = file.tensors.get("a")!;
  expect(tensor.shape).toEqual(shape);
  expect(tensor.rows(24_999_999, 25_000_000)).toEqual(new Uint8Array(4000));
  expect(await refusalOf(() => tensor.toFloat32())).toMatchObject({ code: "capacity" });
  expect(await refusalOf(() => tensor.bytes())).toMatchObject({ code: "capacity" });
  file.close();
});

test.each<[string, (path: string) => string]>([
  ["many arrays", (path) => writeArray(path, 9, 8_000_000n)],
  [
    "a text of 250 MB",
    (path) => scratch.write(path, buildGguf({ metadata: { key: { raw: Buffer.concat([u32(8), u64(250_000_000)]) } } })),
  ],
  ["many bytes", (path) => writeArray(path, 0, 200_000_000n)],
])("a large file cannot ask for more memory than a header needs: %s", async (_, write) => {
  const path = write("greedy.gguf");
  truncateSync(path, 2 ** 35);
  const start = performance.now();
  expect((await refusalOf(() => openGguf(path))).message).toContain("more than");
  expect(performance.now() - start).toBeLessThan(200);
});

function writeArray(path: string, type: number, length: bigint): string {
  return scratch.write(
    path,
    buildGguf({ metadata: { key: { raw: Buffer.concat([u32(9), u32(type), u64(length)]) } } }),
  );
}

test("a closed file says so", async () => {
  const file = openGguf(scratch.write("closed.gguf", buildGguf({ tensors: [vector] })));
  file.close();
  expect((await refusalOf(() => file.tensors.get("a")!.bytes())).message).toContain("was closed");
});

describe("a GGUF file that lies", () => {
  const array = (type: number, length: bigint) => ({ raw: Buffer.concat([u32(9), u32(type), u64(length)]) });
  test.each<[string, BuiltGguf, string]>([
    ["about its version", { version: 4 }, "version 4; longctx reads versions 2 and 3"],
    ["version 1", { version: 1 }, "version 1"],
    ["big-endian", { version: 0x03000000 }, "big-endian"],
    ["about its tensors' number", { tensorCount: 1n << 60n }, `announces ${1n << 60n} tensors`],
    ["about its values' number", { metadataCount: 1n << 63n }, `announces ${1n << 63n} metadata values`],
    ["about one tensor too many", { tensors: [vector], tensorCount: 2n }, "damaged"],
    [
      "about a text's length",
      { metadata: { key: { raw: Buffer.concat([u32(8), u64(1n << 40n)]) } } },
      `${1n << 40n} bytes of key`,
    ],
    ["about an array's length", { metadata: { key: array(0, 1n << 40n) } }, `${1n << 40n} items of key`],
    ["about texts' number", { metadata: { key: array(8, 1n << 61n) } }, "items of key"],
    ["with an unknown value type", { metadata: { key: { raw: u32(13) } } }, "key the unknown value type 13"],
    [
      "with arrays in arrays",
      {
        metadata: {
          key: { raw: Buffer.concat([u32(9), ...Array(9).fill(Buffer.concat([u32(9), u64(1)])), new Uint8Array(99)]) },
        },
      },
      "nests the arrays of key",
    ],
    [
      "with a key twice",
      {
        metadata: { a: { u32: 1 }, b: { raw: Buffer.concat([u32(4), u32(1), text("a"), u32(4), u32(1)]) } },
        metadataCount: 3n,
      },
      'metadata key "a" twice',
    ],
    ["with an alignment of 0", { metadata: { "general.alignment": { u32: 0 } } }, "alignment 0"],
    ["with an alignment of 48", { metadata: { "general.alignment": { u32: 48 } } }, "alignment 48"],
    ["with a tensor twice", { tensors: [vector, vector] }, "tensor a twice"],
    ["with a tensor without dimensions", { tensors: [{ ...vector, shape: [] }] }, "0 dimensions"],
    ["with five dimensions", { tensors: [{ ...vector, shape: [1, 1, 1, 1, 4] }] }, "5 dimensions"],
    ["with an empty tensor", { tensors: [{ ...vector, shape: [4, 0] }] }, "impossible shape [4, 0]"],
    ["with a product beyond 2^53", { tensors: [{ ...vector, shape: [1n << 33n, 1n << 33n] }] }, "impossible shape"],
    ["with a product that wraps to 0", { tensors: [{ ...vector, shape: [1n << 32n, 1n << 32n] }] }, "impossible shape"],
    ["with a size of 2^64 − 1", { tensors: [{ ...vector, shape: [(1n << 64n) - 1n] }] }, "impossible shape"],
    [
      "with a shape larger than the file",
      { tensors: [{ ...vector, shape: [1 << 20, 1 << 20] }] },
      "before the end of its tensor a",
    ],
    [
      "with half a block a row",
      { tensors: [{ ...matrix, shape: [4, 16] }] },
      "rows of 16 values, which Q8_0 cannot store",
    ],
    ["with an unknown tensor type", { tensors: [{ ...vector, type: 99 }] }, "unknown tensor type 99"],
    ["with a tensor behind the end", { tensors: [{ ...vector, offset: 1 << 20 }] }, "before the end of its tensor a"],
    ["with a tensor at 2^63", { tensors: [{ ...vector, offset: 1n << 63n }] }, `byte ${1n << 63n}`],
    ["with a tensor off the grid", { tensors: [{ ...vector, offset: 8 }] }, "not a multiple of 32"],
    ["with tensors in one place", { tensors: [vector, { ...matrix, offset: 0 }] }, "inside a"],
  ])("%s", async (_, built, message) => {
    const path = scratch.write("lie.gguf", buildGguf(built));
    const start = performance.now();
    const error = await refusalOf(() => openGguf(path));
    expect(performance.now() - start).toBeLessThan(500);
    expect(error.code).toBe("file");
    expect(error.message).toContain(path);
    expect(error.message).toContain(message);
  });

  test("a type that longctx does not read is named", async () => {
    const path = scratch.write(
      "q2k.gguf",
      buildGguf({ tensors: [{ name: "q", shape: [1, 256], type: 10, bytes: new Uint8Array(84) }] }),
    );
    const error = await refusalOf(() => openGguf(path));
    expect(error.code).toBe("config");
    expect(error.message).toContain("q has the type Q2_K; longctx reads F32, F16, BF16, Q8_0");
  });

  test.each(["", "GGU", "GGUF", "ggml\0\0\0\0", "PK\u0003\u0004 a zip file"])("no GGUF: %j", async (content) => {
    const error = await refusalOf(() => openGguf(scratch.write("other.gguf", content)));
    expect(error).toMatchObject({ code: "file" });
    expect(error.message).toMatch(/no GGUF file/);
  });
});
