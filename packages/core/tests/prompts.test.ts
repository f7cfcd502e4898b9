import { beforeEach, describe, expect, it } from "vitest";
import { LanguageModel, LongctxError, type ChunkContext, type Method } from "@longctx/core";
import { tinyBackend, tinyIds } from "./tiny-model.ts";

const model = new LanguageModel({ backend: tinyBackend(), tokenizer: null, chatTemplate: null });
const ids = tinyIds(24);

async function messageOf(act: () => unknown): Promise<string> {
  try {
    await act();
    return "";
  } catch (error) {
    if (error instanceof LongctxError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

describe("what a method knows of the prompt", () => {
  let asked: ChunkContext[] = [];
  const watching: Method = {
    spec: "watching",
    axes: [],
    segments: (segments, chunk) => {
      if (chunk.layer === 0) asked.push(chunk);
      return [...segments];
    },
  };
  const lengths = () => asked.splice(0).map(({ first, length, promptLength }) => [first, length, promptLength]);
  const start = () => model.session({ method: watching, chunk: 5, capacity: 24 });
  beforeEach(() => (asked = []));

  it("is its length, in each of its chunks and for everything after it", async () => {
    const session = start();
    await session.prefill(ids.slice(0, 12));
    expect(lengths()).toEqual([[0, 12, 12], [5, 12, 12], [10, 12, 12]]); // prettier-ignore
    await session.prefill([3]);
    await session.prefill(ids.slice(0, 2), { length: 20 });
    expect(lengths()).toEqual([[12, 13, 12], [13, 20, 12]]); // prettier-ignore
    await session.generate({ maxNew: 2, stopTokens: [] }).complete();
    session.plan({ first: 16, count: 1, layer: 0 });
    expect(lengths()).toEqual([[15, 16, 12], [16, 17, 12]]); // prettier-ignore
  });

  it("is its whole length when it is fed in parts", async () => {
    const session = start();
    for (const id of ids.slice(0, 3)) await session.prefill([id], { length: 9 });
    expect(lengths()).toEqual([[0, 9, 9], [1, 9, 9], [2, 9, 9]]); // prettier-ignore
    start().plan({ first: 4, count: 2, layer: 0 });
    expect(lengths()).toEqual([[4, 6, 6]]);
  });

  it("is kept by forks and files and by what was truncated, and forgotten with the whole text", async () => {
    const session = start();
    await session.prefill(ids.slice(0, 8));
    await session.prefill(ids.slice(8, 10));
    const restored = model.restoreSession(await session.save(), { method: watching, chunk: 5, capacity: 24 });
    const fork = restored.fork();
    session.truncate(3);
    lengths();
    for (const one of [session, restored, fork]) await one.prefill([1]);
    expect(lengths()).toEqual([[3, 4, 8], [10, 11, 8], [10, 11, 8]]); // prettier-ignore
    session.truncate(0);
    await session.prefill(ids.slice(0, 2));
    expect(lengths()).toEqual([[0, 2, 2]]);
  });

  it("is that of the prompt that was read, not of one that was stopped before it began", async () => {
    const session = start();
    const signal = AbortSignal.abort();
    expect(await messageOf(() => session.prefill(ids, { signal }))).toMatch(/^aborted/);
    await session.prefill(ids.slice(0, 4));
    expect(lengths()).toEqual([[0, 4, 4]]);
  });
});

describe("tokens that are read at once", () => {
  const chunks: number[] = [];
  const seven: Method = {
    spec: "seven",
    axes: [],
    readAtOnce: 7,
    segments: (segments, { first, count, layer }) => {
      if (layer === 0) chunks.push(first, count);
      return [...segments];
    },
  };
  const start = (chunk: number) => model.session({ method: seven, chunk, capacity: 24 });
  beforeEach(() => void chunks.splice(0));

  it("are in the first chunk, whatever the chunks", async () => {
    await start(3).prefill(ids.slice(0, 12));
    expect(chunks.splice(0)).toEqual([0, 7, 7, 3, 10, 2]);
    await start(9).prefill(ids.slice(0, 12));
    expect(chunks.splice(0)).toEqual([0, 9, 9, 3]);
  });

  it("have to be there", async () => {
    const session = start(3);
    expect(await messageOf(() => session.prefill(ids.slice(0, 6), { length: 12 }))).toBe(
      "argument: The first 7 tokens see each other under seven, so one call has to read them, but it has 6. Hand over at least 7 tokens at once, or make the prefix smaller.",
    );
    expect(session.length).toBe(0);
    await session.prefill(ids.slice(0, 7));
    await session.prefill([1]);
    expect(session.length).toBe(8);
  });

  it("are forgotten together", async () => {
    const session = start(3);
    await session.prefill(ids.slice(0, 9));
    expect(await messageOf(() => session.truncate(6))).toMatch(/^argument: .*Truncate to 0, or to at least 7/);
    session.truncate(7);
    await session.fork().prefill([1]);
    session.truncate(0);
    expect(await messageOf(() => session.prefill([1]))).toMatch(/it has 1/);
  });
});
