import { LongctxError } from "../common/errors.ts";
import type { FinishReason, GenerationOptions } from "./generation.ts";
import type { Session } from "./session.ts";
import type { SessionOptions } from "./session-types.ts";

/** The options of `generateBatch`: those of a session and of a generation, for all rows. */
export interface BatchOptions extends SessionOptions, Omit<GenerationOptions, "prompt" | "onPrefill"> {
  /** Called with each row's result as soon as the row is finished. */
  readonly onRow?: (row: number, result: BatchRow) => void;
}

/** The generated continuation of one prompt. */
export interface BatchRow {
  readonly text: string;
  /** The generated token ids, without the stop token. */
  readonly ids: readonly number[];
  readonly reason: FinishReason;
}

/** Something that opens a session for each row of a batch, such as a `LanguageModel`. */
export interface SessionSource {
  session(options: SessionOptions): Session;
}

/**
 * Continues prompts one after another, each in a session of its own, so that only one KV cache is in memory at a time
 * and no row influences another. Row i equals, bit for bit, `model.session(options).generate({ prompt: prompts[i],
 * seed: seed + i })`. The abort signal ends the current row and all later rows with the reason "aborted" and the tokens
 * generated so far.
 * @throws LongctxError that names the prompt, when a prompt is empty, has ids outside of the vocabulary or does not fit
 */
export async function generateBatch(
  model: SessionSource,
  prompts: readonly (readonly number[])[],
  options: BatchOptions = {},
): Promise<BatchRow[]> {
  const { onRow, ...rest } = options;
  const rows: BatchRow[] = [];
  for (const [row, prompt] of prompts.entries()) {
    const result = await generateRow(model, prompt, row, { ...rest, seed: (rest.seed ?? 0) + row });
    rows.push(result);
    onRow?.(row, result);
  }
  return rows;
}

async function generateRow(
  model: SessionSource,
  prompt: readonly number[],
  row: number,
  options: BatchOptions,
): Promise<BatchRow> {
  if (options.signal?.aborted) return { text: "", ids: [], reason: "aborted" };
  const session = model.session(options);
  const generation = session.generate({ ...options, prompt });
  try {
    await generation.complete();
  } catch (error) {
    if (!(error instanceof LongctxError)) throw error;
    if (error.code !== "aborted")
      throw new LongctxError(error.code, `Prompt ${row}: ${error.message}`, { cause: error });
  } finally {
    session.dispose();
  }
  return { text: generation.text, ids: generation.ids, reason: generation.reason! };
}
