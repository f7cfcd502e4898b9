import { LongctxError } from "../common/errors.ts";
import type { FinishReason, GenerationOptions } from "./generation.ts";
import type { LanguageModel } from "./model.ts";
import type { SessionOptions } from "./session-types.ts";

export interface BatchOptions extends SessionOptions, Omit<GenerationOptions, "prompt" | "onPrefill"> {
  /** Called with each row as soon as it is finished. */
  readonly onRow?: (row: number, result: BatchRow) => void;
}

/** The continuation of one prompt. */
export interface BatchRow {
  readonly text: string;
  /** Without the stop token. */
  readonly ids: readonly number[];
  readonly reason: FinishReason;
}

/**
 * Continues prompts independently of one another. Every row is a session of its own, read from beginning to end before
 * the next begins, so rows never influence each other (no padding, no shared table of lengths) and one cache is in memory
 * at a time: row i is, bit for bit, what `model.session(options).generate({ prompt: prompts[i], seed: seed + i })` gives.
 * The signal ends the row at hand and all that follow with the reason "aborted" and what they have.
 * @throws LongctxError that names the prompt, when one is empty, has foreign ids or does not fit
 */
export async function generateBatch(
  model: LanguageModel,
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
  model: LanguageModel,
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
