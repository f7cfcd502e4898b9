/** Text to token ids and back. Implemented by `@longctx/loaders`; the core only needs this much. */
export interface Tokenizer {
  readonly vocabSize: number;
  /** Special tokens written in the text are recognised. `special` (default true) lets the tokenizer put its own (BOS) around it. */
  encode(text: string, options?: { special?: boolean }): number[];
  /** `skipSpecial` (default true) leaves out special tokens. */
  decode(ids: readonly number[], options?: { skipSpecial?: boolean }): string;
  /** The vocabulary's own spelling of a token ("Ġthe"). @throws LongctxError "argument" where no token has the id */
  token(id: number): string;
}

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** Renders messages as the model's chat template does; the result is encoded with `special: false`. */
export type ChatTemplate = (messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }) => string;
