import { describe, expect, it } from "vitest";
import {
  LanguageModel,
  LongctxError,
  type GenerationOptions,
  type SessionOptions,
  type Tokenizer,
} from "@longctx/core";
import { pieceTokenizer, ScriptedBackend } from "./scripted-backend.ts";

const EOS = 2;
const PROMPT = [9, 9, 9];

/** A model that continues PROMPT with these ids, then with eos for ever. */
function scripted(ids: readonly number[], tokenizer: Tokenizer | null = null) {
  const backend = new ScriptedBackend((index) => ids[index - PROMPT.length + 1] ?? EOS);
  return { backend, model: new LanguageModel({ backend, tokenizer, chatTemplate: null }) };
}

async function generated(
  ids: readonly number[],
  options: GenerationOptions = {},
  { tokenizer = null, capacity }: { tokenizer?: Tokenizer | null } & SessionOptions = {},
) {
  const { backend, model } = scripted(ids, tokenizer);
  const session = model.session({ capacity });
  const generation = session.generate({ prompt: PROMPT, ...options });
  const texts: string[] = [];
  for await (const { text } of generation) texts.push(text);
  return { generation, session, texts, backend };
}

describe("a generation ends", () => {
  it("with a stop token, which is not part of it", async () => {
    const { generation, session, backend } = await generated([5, 6, 7]);
    expect(generation).toMatchObject({ ids: [5, 6, 7], reason: "stop", text: "" });
    expect(session.tokens).toEqual([...PROMPT, 5, 6, 7]);
    expect(backend.calls).toEqual([3, 1, 1, 1]);
  });

  it("with the stop tokens given, in place of the model's own", async () => {
    expect((await generated([5, EOS, 7, 8], { stopTokens: [8] })).generation).toMatchObject({
      ids: [5, EOS, 7],
      reason: "stop",
    });
    expect((await generated([5], { stopTokens: [], maxNew: 4 })).generation.ids).toEqual([5, EOS, EOS, EOS]);
  });

  it("at its length, without reading the last token", async () => {
    const { generation, session, backend } = await generated([5, 6, 7], { maxNew: 2 });
    expect(generation).toMatchObject({ ids: [5, 6], reason: "length" });
    expect(session.tokens).toEqual([...PROMPT, 5]);
    expect(backend.calls).toEqual([3, 1]);
    expect((await generated([5], { maxNew: 0 })).generation).toMatchObject({ ids: [], reason: "length" });
  });

  it("with a full cache, after the last token that it can still say", async () => {
    const { generation, session } = await generated([5, 6, 7, 8, 9], {}, { capacity: 5 });
    expect(generation).toMatchObject({ ids: [5, 6, 7], reason: "capacity" });
    expect(session.tokens).toEqual([...PROMPT, 5, 6]);
  });

  it("when its signal is aborted, and the session goes on", async () => {
    const { model } = scripted([5, 6, 7, 8]);
    const session = model.session();
    const controller = new AbortController();
    const generation = session.generate({ prompt: PROMPT, signal: controller.signal });
    for await (const { id } of generation) if (id === 6) controller.abort();
    expect(generation).toMatchObject({ ids: [5, 6], reason: "aborted" });
    const rest = session.generate();
    await rest.complete();
    expect(rest.ids).toEqual([7, 8]);
  });

  it("with an error when it is aborted while the prompt is read, between two chunks", async () => {
    const { model, backend } = scripted([5]);
    const session = model.session({ chunk: 2 });
    const controller = new AbortController();
    const generation = session.generate({
      prompt: PROMPT,
      signal: controller.signal,
      onPrefill: () => controller.abort(),
    });
    await expect(generation.complete()).rejects.toMatchObject({ code: "aborted" });
    expect(generation.reason).toBe("aborted");
    expect(session.tokens).toEqual([9, 9]);
    expect(backend.calls).toEqual([2]);
  });

  it("when the caller has enough", async () => {
    const { model } = scripted([5, 6, 7, 8]);
    const session = model.session();
    for await (const { id } of session.generate({ prompt: PROMPT })) if (id === 6) break;
    expect(session.tokens).toEqual([...PROMPT, 5]); // the last token is handed in with what follows
    expect((await session.prefill([6])).indexOf(9)).toBe(7);
  });
});

describe("text", () => {
  const tokenizer = pieceTokenizer(["he", "llo", "", " wo", "rld", "</", "s>", "x", [0xc3], "", [0xa9], "!", "é"]);
  const said = async (ids: readonly number[], options: GenerationOptions = {}) => {
    const { generation, texts, backend } = await generated(ids, options, { tokenizer });
    expect(texts.join("")).toBe(generation.text);
    return {
      texts,
      text: generation.text,
      reason: generation.reason,
      calls: backend.calls.length,
      ids: generation.ids,
    };
  };

  it("comes with its tokens", async () => {
    expect(await said([0, 1, 3, 4])).toMatchObject({ texts: ["he", "llo", " wo", "rld"], reason: "stop" });
  });

  it("ends before a stop text that is spread over tokens, and nothing more is computed", async () => {
    expect(await said([0, 1, 3, 4], { stop: ["o w"] })).toEqual({
      texts: ["he", "ll", ""],
      text: "hell",
      reason: "stop",
      calls: 3,
      ids: [0, 1, 3],
    });
    expect(await said([0, 5, 6, 1], { stop: ["never", "</s>"] })).toMatchObject({
      text: "he",
      reason: "stop",
      calls: 3,
    });
  });

  it("that might have been a stop text is given out when it is none", async () => {
    expect(await said([0, 5, 7, 1], { stop: ["</s>"] })).toMatchObject({ texts: ["he", "", "</x", "llo"] });
  });

  it("that was held back is given out at the end, whatever ends it", async () => {
    const held = { stop: ["</s>"] };
    expect(await said([0, 5], held)).toMatchObject({ texts: ["he", "", "</"], reason: "stop", ids: [0, 5] });
    expect(await said([0, 5, 6], { ...held, maxNew: 2 })).toMatchObject({ texts: ["he", "", "</"], reason: "length" });
    expect(await said([0, 12], { maxNew: 2 })).toMatchObject({ texts: ["he", "", "é"], reason: "length" });
    expect(await said([0, 8], { maxNew: 2 })).toMatchObject({ texts: ["he", "", "\uFFFD"], reason: "length" });
  });

  it("has no half characters", async () => {
    expect(await said([0, 8, 10, 11])).toMatchObject({ texts: ["he", "", "", "é!"] });
  });

  it("continues the prompt: a word's first space stays", async () => {
    // As SentencePiece does: the space before the first token of a text is left out.
    const spaced: Tokenizer = {
      ...tokenizer,
      decode: (ids) => ids.map((id) => (id === 9 ? "It" : " is")).join("").trimStart(), // prettier-ignore
    };
    expect((await generated([5], {}, { tokenizer: spaced })).generation.text).toBe(" is");
  });
});

describe("a generation refuses", () => {
  const { model } = scripted([5]);
  const failure = (options: GenerationOptions) => model.session().generate(options).complete();

  it.each<[string, GenerationOptions, RegExp]>([
    ["stop texts without a tokenizer", { prompt: PROMPT, stop: ["a"] }, /need a tokenizer/],
    ["to continue nothing", {}, /nothing to continue/],
    ["a length that is none", { prompt: PROMPT, maxNew: -1 }, /maxNew is -1/],
    ["a length that is a fraction", { prompt: PROMPT, maxNew: 1.5 }, /maxNew is 1.5/],
    ["a seed that is none", { prompt: PROMPT, seed: Number.NaN }, /seed is NaN/],
    ["an empty prompt", { prompt: [] }, /no tokens to read/],
    ["foreign ids", { prompt: [1, 32] }, /Token 1 has the id 32/],
    ["a prompt longer than the cache", { prompt: Array.from({ length: 65 }, () => 1) }, /65 tokens, but the cache holds 64/], // prettier-ignore
  ])("%s", async (_, options, message) => {
    await expect(failure(options)).rejects.toThrow(message);
    await expect(failure(options)).rejects.toBeInstanceOf(LongctxError);
  });

  it("to run twice", async () => {
    const generation = model.session().generate({ prompt: PROMPT });
    await generation.complete();
    await expect(generation.complete()).rejects.toThrow(/runs once/);
  });
});

describe("batches", () => {
  it("end with their signal: rows keep what they have", async () => {
    const { model, backend } = scripted([5, 6, 7, 8]);
    const controller = new AbortController();
    const rows = await model.generateBatch([PROMPT, PROMPT, PROMPT], {
      signal: controller.signal,
      onRow: () => controller.abort(),
    });
    expect(rows).toEqual([
      { ids: [5, 6, 7, 8], text: "", reason: "stop" },
      { ids: [], text: "", reason: "aborted" },
      { ids: [], text: "", reason: "aborted" },
    ]);
    expect(backend.calls).toHaveLength(5);
  });

  it("name the prompt that is impossible", async () => {
    const { model } = scripted([5]);
    const finished: number[] = [];
    const batch = model.generateBatch([PROMPT, [40]], { onRow: (row) => finished.push(row) });
    await expect(batch).rejects.toThrow(/^Prompt 1: Token 0 has the id 40/);
    expect(finished).toEqual([0]);
    expect(await model.generateBatch([])).toEqual([]);
  });
});
