import { defineMethod, LongctxError, type ModelContext } from "@longctx/core";

/**
 * Log-n scaling: the scores of the query at text index m are multiplied by ln(m+1) / ln T beyond the trained window T,
 * so that the entropy of attention over m + 1 tokens stays as in training. m is the index in the text even under
 * methods that show a query fewer tokens. Su Jianlin: "Attention scale from the invariance of entropy", 2021
 * (kexue.fm/archives/8823); applied beyond the trained window only, as in kexue.fm/archives/9708.
 */
export const logn = defineMethod({
  name: "logn",
  axes: ["temperature"],
  summary: "Scores grow with the logarithm of the position beyond the trained window.",
  definition: "τ(m) = max(1, ln(m+1) / ln T)",
  paper: "Su 2021, kexue.fm/archives/8823; Su 2023, kexue.fm/archives/9708",
  deviations:
    "Within the trained window nothing changes. T comes from the model instead of a constant of 4096, as in the author's code. m is the index in the text, also under methods that show a query fewer tokens than m + 1 (streaming) or place it elsewhere (parallel).",
  parameters: {},
  create: () => ({ check: checkLogn, temperature: lognTemperature }),
});

/**
 * Returns the factor max(1, ln(m+1) / ln T) on the scores of the query at text index m (`query`, counted from 0); T ≥
 * 2.
 */
export function lognTemperature(query: number, { trainedWindow }: Pick<ModelContext, "trainedWindow">): number {
  return Math.max(1, Math.log(query + 1) / Math.log(trainedWindow));
}

/** Checks the trained window T. @throws LongctxError "method" where T is 1, since log-n scaling divides by ln T */
export function checkLogn({ trainedWindow }: Pick<ModelContext, "trainedWindow">): void {
  if (trainedWindow < 2)
    throw new LongctxError(
      "method",
      `Log-n scaling divides by ln T, but the trained window T is ${trainedWindow}; give one of at least 2 tokens (--trained-window), or leave logn out.`,
    );
}
