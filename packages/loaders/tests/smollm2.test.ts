import type { ChatMessage } from "@longctx/core";
import { describe, expect, it } from "vitest";
import { tokenizerFromGguf } from "../src/gguf/tokenizer.ts";
import { openGguf } from "../src/checkpoint/disk.ts";
import { findSmolLM2 } from "../src/download/smollm2.ts";
import { golden } from "./golden.ts";

const path = findSmolLM2();
const { cases, chats } = golden("smollm2-cases.json") as {
  cases: { text: string; ids: number[] }[];
  chats: { messages: ChatMessage[]; text: string }[];
};

if (path === null)
  console.warn(
    "Skipped: SmolLM2 is not on this machine; run `longctx fetch smollm2` or set LONGCTX_SMOLLM2 to its .gguf file.",
  );

describe.skipIf(path === null)("SmolLM2's own file", () => {
  const load = () => {
    const file = openGguf(path!);
    try {
      return tokenizerFromGguf(file.metadata);
    } finally {
      file.close();
    }
  };

  it("has the ids of the original tokenizer, and no BOS", () => {
    const { tokenizer } = load();
    expect(tokenizer.vocabSize).toBe(49152);
    for (const { text, ids } of cases) {
      expect({ text, ids: tokenizer.encode(text) }).toEqual({ text, ids });
      expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(text);
    }
  });

  it("renders chats as transformers does", () => {
    const { tokenizer, chatTemplate } = load();
    for (const { messages, text } of chats) expect(chatTemplate!(messages, { addGenerationPrompt: true })).toBe(text);
    expect(tokenizer.encode(chats[0].text, { special: false })[0]).toBe(1);
  });

  it("cuts a long text in linear time", () => {
    const { tokenizer } = load();
    const chapter = cases.map(({ text }) => text).join("\n");
    const seconds = (text: string) => {
      const start = performance.now();
      tokenizer.encode(text);
      return (performance.now() - start) / 1000;
    };
    const unit = chapter.repeat(20);
    seconds(unit);
    // 8 times the text; a quadratic step would take 64 times as long.
    expect(seconds(unit.repeat(8))).toBeLessThan(24 * seconds(unit) + 1);
  });
});
