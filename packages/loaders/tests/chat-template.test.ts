import { LongctxError } from "@longctx/core";
import { expect, it } from "vitest";
import { chatTemplate } from "../src/tokenizer/chat-template.ts";

const tokens = { bos_token: "<s>", eos_token: "</s>" };
const hi = [{ role: "user", content: "Hi" }] as const;

it("renders messages, special tokens and the generation prompt", () => {
  const template = chatTemplate(
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message.content | trim }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    tokens,
    "here",
  );
  expect(template([...hi, { role: "assistant", content: " Hello. " }])).toBe(
    "<s>[user] Hi</s>\n[assistant] Hello.</s>\n",
  );
  expect(template(hi, { addGenerationPrompt: true })).toBe("<s>[user] Hi</s>\n[assistant]");
});

it("has no tools and no documents, as transformers calls it", () => {
  expect(
    chatTemplate("{{ tools is none }} {{ documents is none }}{% if tools %} tools{% endif %}", {}, "here")(hi),
  ).toBe("true true");
});

it("says in one line that a template refuses the messages", () => {
  const template = chatTemplate("{{ raise_exception('Roles must\nalternate.') }}", tokens, "model.gguf");
  expect(() => template([...hi, ...hi])).toThrow(
    new LongctxError("argument", "model.gguf: the chat template refused 2 messages (user, user): Roles must."),
  );
});

it("can be held before its source is found broken", () => {
  const template = chatTemplate("{% for %}", tokens, "model.gguf");
  expect(() => template(hi)).toThrow(/^model\.gguf: the chat template cannot be parsed: /);
});
