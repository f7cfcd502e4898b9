/**
 * Returns α, the factor of NTK-aware scaling under dynamic NTK, for a text of `length` = N tokens after training on
 * `window` = T tokens: 1 within T, else factor · N/T − (factor − 1), as in Hugging Face transformers. emozilla:
 * "Dynamically Scaled RoPE further increases performance of long context LLaMA with zero fine-tuning", 2023; Peng et
 * al., 2023 (YaRN, arXiv:2309.00071), section 3.3.
 */
export function dynamicAlpha(factor: number, length: number, window: number): number {
  return length > window ? (factor * length) / window - (factor - 1) : 1;
}
