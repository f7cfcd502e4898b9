/**
 * Dynamic NTK. emozilla: "Dynamically Scaled RoPE further increases performance of long context LLaMA with zero
 * fine-tuning", 2023; Peng et al., 2023 (YaRN, arXiv:2309.00071), section 3.3. α, the factor of NTK-aware scaling for a
 * text of `length` = N tokens after training on `window` = T, is 1 within T and factor · N/T − (factor − 1) beyond, as
 * in Hugging Face transformers.
 */
export function dynamicAlpha(factor: number, length: number, window: number): number {
  return length > window ? (factor * length) / window - (factor - 1) : 1;
}
