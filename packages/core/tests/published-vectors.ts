import vectors from "./fixtures/published-vectors.json" with { type: "json" };

/**
 * Numbers that methods have to give, as their sources print them or computed from the formulas apart from this code: L is
 * the trained window, s, f and k are factors, n the length of a text, m a query, af the factor on cos and sin. Frequencies
 * are those of all pairs unless the name says which; distances are those of tokens 0 to m, null where one is not seen.
 * Those of yarn, llama3 and dynamic NTK with 128 channels are also what the tests of Hugging Face transformers hold.
 */
export const VECTORS = vectors;

/** Numbers as a source prints them. */
export function printed(values: Iterable<number>, digits = 7): number[] {
  return [...values].map((value) => Number(value.toPrecision(digits)));
}
