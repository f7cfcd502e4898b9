import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { openFiles } from "../src/checkpoint/blobs.ts";
import { openCheckpoint } from "../src/checkpoint/disk.ts";
import type { DownloadProgress } from "../src/download/options.ts";
import { fetchFile } from "../src/download/fetch-file.ts";
import { buildGguf } from "./gguf-builder.ts";
import { convertedMetadata, convertedTensors, goldenFolder } from "./model-files.ts";
import { expectSameBits, refusalOf } from "./scratch.ts";

const llama = goldenFolder("llama");
const tiny = join(import.meta.dirname, "../../tiny/model");
const gguf = buildGguf({ metadata: convertedMetadata(llama, "llama"), tensors: convertedTensors(llama, "llama") });

const filesOf = (folder: string) =>
  readdirSync(folder).map((name) => new File([readFileSync(join(folder, name))], name));

afterEach(() => vi.unstubAllGlobals());

/** What workers read files with; there are none in Node. */
function pretendWorker(content: ReadonlyMap<Blob, Uint8Array<ArrayBuffer>>): { readonly reads: number[] } {
  const reads: number[] = [];
  const slices = new WeakMap<Blob, Uint8Array<ArrayBuffer>>();
  for (const [blob, bytes] of content)
    blob.slice = (from = 0, to = bytes.length) => {
      const slice = new Blob([]);
      slices.set(slice, bytes.slice(from, to));
      return slice;
    };
  vi.stubGlobal(
    "FileReaderSync",
    class {
      readAsArrayBuffer(slice: Blob): ArrayBuffer {
        const { buffer, length } = slices.get(slice)!;
        reads.push(length);
        return buffer;
      }
    },
  );
  return { reads };
}

describe("files that a page was given", () => {
  test("of a folder are read as the folder is", async () => {
    for (const folder of [llama, tiny]) {
      const [given, there] = [await openFiles(filesOf(folder)), await openCheckpoint(folder)];
      expect(given.config).toEqual(there.config);
      for (const name of there.weights.names())
        expectSameBits(given.weights.find(name)!.toFloat32(), there.weights.find(name)!.toFloat32(), name);
      const text = "the blacksmith";
      expect(given.tokenizer?.encode(text)).toEqual(there.tokenizer?.encode(text));
      there.close();
      given.close();
      expect(() => given.weights.find("embedding")!.bytes()).toThrow("was closed");
    }
  });

  test("may be one GGUF file, with a name or without", async () => {
    for (const file of [new File([gguf], "model.gguf"), new Blob([gguf]), [new File([gguf], "sha256-abc")]]) {
      const { format, config, close } = await openFiles(file, { trainedWindow: 48 });
      expect({ format, trainedWindow: config.trainedWindow }).toEqual({ format: "gguf", trainedWindow: 48 });
      close();
    }
  });

  test("are read in places in a worker: the header, then a tensor at a time", async () => {
    const file = new File([gguf], "model.gguf");
    const { reads } = pretendWorker(new Map([[file, new Uint8Array(gguf)]]));
    const { weights, close } = await openFiles(file);
    const header = reads.reduce((sum, bytes) => sum + bytes, 0);
    expect(header).toBeLessThan(gguf.length / 2);
    expect(weights.find("finalNorm")!.toFloat32()).toHaveLength(64);
    expect(reads.at(-1)).toBe(64 * 4);
    close();
  });

  test.each<[string, () => Blob | File[], string]>([
    ["another kind of file", () => new File(["PNG"], "photo.png"), "photo.png"],
    ["no files", () => [], "no .safetensors file"],
    ["weights alone", () => filesOf(llama).filter(({ name }) => name === "model.safetensors"), "no config.json"],
    ["a description alone", () => [new File(["{}"], "config.json"), new File([""], "a.txt")], "no .safetensors file"],
    ["a missing shard", () => [...described(), indexOf("b-1-of-1.safetensors")], "b-1-of-1.safetensors is not among"],
  ])("are refused: %s", async (_, make, message) => {
    const error = await refusalOf(() => openFiles(make()));
    expect(error.code).toBe("file");
    expect(error.message).toContain(message);
  });

  test("tell how much of them is in memory, and a signal ends that", async () => {
    const file = new File([gguf], "model.gguf");
    const told: DownloadProgress[] = [];
    (await openFiles(file, { onProgress: (progress) => told.push(progress) })).close();
    expect(told).toEqual([{ file: "model.gguf", received: gguf.length, total: gguf.length }]);
    const signal = AbortSignal.abort();
    for (const files of [file, filesOf(llama)])
      expect(await refusalOf(() => openFiles(files, { signal }))).toMatchObject({ code: "aborted" });
  });

  test("that changed since say so", async () => {
    const file = new File([gguf], "model.gguf");
    file.slice = () => {
      throw new Error("the permission went away.");
    };
    expect((await refusalOf(() => openFiles(file))).message).toBe(
      "model.gguf cannot be read (the permission went away). Give it again.",
    );
  });
});

function described(): File[] {
  return filesOf(llama).filter(({ name }) => name === "config.json");
}

function indexOf(shard: string): File {
  return new File([JSON.stringify({ weight_map: { vector: shard } })], "model.safetensors.index.json");
}

describe("a file of a server", () => {
  const answering = (response: Response | Error) => async () => {
    if (response instanceof Error) throw response;
    return response;
  };

  test("comes with its name, and tells how it goes on", async () => {
    const told: number[] = [];
    const fetch = answering(new Response(new Uint8Array(5), { headers: { "content-length": "5" } }));
    const file = await fetchFile("models/a%20b.gguf?download=true", {
      fetch,
      onProgress: ({ received, total }) => told.push(received, total!),
    });
    expect({ name: file.name, size: file.size, told }).toEqual({ name: "a b.gguf", size: 5, told: [5, 5] });
  });

  test.each([
    [new Response("", { status: 404 }), "network", "Cannot fetch a.gguf: the server answers 404"],
    [new TypeError("Failed to fetch"), "network", "Cannot fetch a.gguf: Failed to fetch"],
  ])("that cannot be fetched is refused", async (response, code, message) => {
    const error = await refusalOf(() => fetchFile("a.gguf", { fetch: answering(response) }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  test("is given up on the signal", async () => {
    const fetch = answering(new Error("aborted"));
    const error = await refusalOf(() => fetchFile("a.gguf", { fetch, signal: AbortSignal.abort() }));
    expect(error.code).toBe("aborted");
  });
});
