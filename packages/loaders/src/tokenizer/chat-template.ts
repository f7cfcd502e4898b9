import { Template } from "@huggingface/jinja";
import { LongctxError, type ChatTemplate } from "@longctx/core";
import { oneLine } from "../common/message.ts";

/**
 * The chat template of a checkpoint, from its Jinja source. The template sees `messages`, `add_generation_prompt`, the
 * special tokens given (`bos_token`, `eos_token`, ...), and null for `tools` and `documents`. The source is parsed at
 * the first use, so that a model whose template cannot be parsed can still be loaded. The function returned throws
 * LongctxError "file" when the source cannot be parsed, "argument" when the template refuses the messages.
 */
export function chatTemplate(
  source: string,
  specialTokens: Readonly<Record<string, string>>,
  place: string,
): ChatTemplate {
  let template: Template | undefined;
  return (messages, options = {}) => {
    try {
      template ??= new Template(source);
    } catch (error) {
      throw new LongctxError("file", `${place}: the chat template cannot be parsed: ${oneLine(error)}.`, {
        cause: error,
      });
    }
    try {
      return template.render({
        ...specialTokens,
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: options.addGenerationPrompt ?? false,
        tools: null,
        documents: null,
      });
    } catch (error) {
      throw new LongctxError(
        "argument",
        `${place}: the chat template refused ${messages.length} messages (${messages.map(({ role }) => role).join(", ")}): ${oneLine(error)}.`,
        { cause: error },
      );
    }
  };
}
