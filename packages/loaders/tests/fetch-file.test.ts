import { expect, test } from "vitest";
import { fetchFile } from "../src/download/fetch-file.ts";
import { refusalOf } from "./scratch.ts";

const answering: typeof fetch = async () => new Response("model");

test("a file is called by the last part of its address, whatever stands there", async () => {
  const names = ["models/a%20b.gguf?download=true", "https://host/50%.gguf", "a.gguf#part"].map(
    async (url) => (await fetchFile(url, { fetch: answering })).name,
  );
  expect(await Promise.all(names)).toEqual(["a b.gguf", "50%.gguf", "a.gguf"]);
});

test("an address that is none is refused as one that cannot be fetched", async () => {
  const error = await refusalOf(() => fetchFile("http://[", { fetch: answering }));
  expect(error.code).toBe("network");
  expect(error.message).toMatch(/^Cannot fetch http:\/\/\[: .*Is the address right/);
});
