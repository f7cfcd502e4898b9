"""Writes configs.json: descriptions of models and what transformers understands by them.

    python make_configs.py > configs.json        (torch 2.13, transformers 5.23)

Each case is a config.json as it may be found on the Hub (old and new layouts, missing fields, nulls); beside it what the
config class makes of it, and the frequencies of the model's own rotary embedding at its initial length.
"""

import contextlib
import io
import json
import logging

from transformers import CONFIG_MAPPING
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

ROTARY = {
    "llama": LlamaRotaryEmbedding,
    "mistral": MistralRotaryEmbedding,
    "phi3": Phi3RotaryEmbedding,
    "qwen2": Qwen2RotaryEmbedding,
    "qwen3": Qwen3RotaryEmbedding,
}
SIZES = {"vocab_size": 40_000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
FACTORS = {"short_factor": [1.0 + 0.05 * i for i in range(16)], "long_factor": [1.0 + 0.9 * i for i in range(16)]}
PARTIAL = {"short_factor": FACTORS["short_factor"][:12], "long_factor": FACTORS["long_factor"][:12]}

CASES = {
    "llama, sizes only": ("llama", {}),
    "llama, grouped, tied, eps, ids as a list": ("llama", {"num_key_value_heads": 2, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "eos_token_id": [7, 9]}),
    "llama, nulls": ("llama", {"num_key_value_heads": None, "head_dim": None, "rope_scaling": None, "eos_token_id": None, "bos_token_id": None}),
    "llama, head_dim of its own": ("llama", {"head_dim": 64, "rope_theta": 500_000.0}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}),
    "llama, linear in the old layout": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama, dynamic": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "rope_theta": 1e6, "max_position_embeddings": 4096}),
    "llama 3.1": ("llama", {"max_position_embeddings": 131_072, "rope_theta": 500_000.0, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}}),
    "llama, yarn in the new layout": ("llama", {"max_position_embeddings": 8192, "rope_parameters": {"rope_type": "yarn", "rope_theta": 20_000.0, "factor": 4.0, "original_max_position_embeddings": 2048, "beta_fast": 16, "beta_slow": 2}}),
    "llama, yarn without its original window": ("llama", {"max_position_embeddings": 2048, "rope_scaling": {"type": "yarn", "factor": 4.0}}),
    "llama, yarn with mscale": ("llama", {"max_position_embeddings": 8192, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}}),
    "llama, yarn with an attention factor": ("llama", {"max_position_embeddings": 8192, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048, "attention_factor": 1.25, "beta_fast": 0}}),
    "llama, original window beside the scaling": ("llama", {"max_position_embeddings": 8192, "original_max_position_embeddings": 1024, "rope_scaling": {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048}}),
    "llama, rope_scaling over rope_parameters": ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5.0}}),
    "mistral, sizes only": ("mistral", {}),
    "mistral without a window": ("mistral", {"sliding_window": None, "num_key_value_heads": 4, "head_dim": 48}),
    "mistral with a window": ("mistral", {"sliding_window": 1024, "hidden_act": "swish"}),
    "qwen2, window not used": ("qwen2", {"num_key_value_heads": 2, "sliding_window": 32_768, "max_window_layers": 3}),
    "qwen2, window from layer 4": ("qwen2", {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 128, "max_window_layers": 4}),
    "qwen2, window by layer types": ("qwen2", {"num_key_value_heads": None, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"] * 3}),
    "qwen2, yarn": ("qwen2", {"num_key_value_heads": 2, "max_position_embeddings": 32_768, "rope_theta": 1e6, "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32_768, "type": "yarn"}}),
    "qwen3, sizes only": ("qwen3", {"num_key_value_heads": 2}),
    "qwen3, biases": ("qwen3", {"num_key_value_heads": 2, "head_dim": 32, "attention_bias": True, "tie_word_embeddings": True, "rope_theta": 1e6}),
    "phi3, sizes only": ("phi3", {}),
    "phi3, longrope in the old layout": ("phi3", {"max_position_embeddings": 131_072, "original_max_position_embeddings": 4096, "sliding_window": 262_144, "rope_scaling": {"type": "longrope", **FACTORS}}),
    "phi3, yarn means longrope": ("phi3", {"max_position_embeddings": 131_072, "rope_scaling": {"type": "yarn", **FACTORS}, "original_max_position_embeddings": 4096}),
    "phi3, longrope on three quarters of a head": ("phi3", {"max_position_embeddings": 131_072, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75, "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_scaling": {"type": "longrope", **PARTIAL}}),
    "phi3, the new layout with a factor": ("phi3", {"max_position_embeddings": 16_384, "original_max_position_embeddings": 2048, "rope_parameters": {"rope_type": "longrope", "factor": 4.0, "rope_theta": 1e5, "partial_rotary_factor": 0.75, **PARTIAL}}),
}


def understood(config) -> dict:
    layers = config.num_hidden_layers
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    window = None if config.model_type == "llama" else config.sliding_window
    rotary = ROTARY[config.model_type](config)
    eos = config.eos_token_id
    return {
        "keyHeads": config.num_key_value_heads,
        "headSize": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "epsilon": config.rms_norm_eps,
        "maxPositions": config.max_position_embeddings,
        "tiedEmbedding": config.tie_word_embeddings,
        "slidingWindows": [window if kind == "sliding_attention" else None for kind in types],
        "bos": config.bos_token_id,
        "eos": eos if isinstance(eos, list) else [] if eos is None else [eos],
        "inverse": rotary.inv_freq.double().tolist(),
        "amplitude": float(rotary.attention_scaling),
    }


def main() -> None:
    logging.disable(logging.WARNING)
    cases = []
    for name, (model_type, fields) in CASES.items():
        written = {"model_type": model_type, **SIZES, **fields}
        with contextlib.redirect_stdout(io.StringIO()):
            config = CONFIG_MAPPING[model_type].from_dict(json.loads(json.dumps(written)))
        cases.append({"name": name, "config": written, "expected": understood(config)})
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


main()
