"""Writes dequantise.json: random blocks of every storage type and what gguf.quants.dequantize makes of them.

    python make_dequantise.py > dequantise.json        (numpy 2.4, gguf 0.19)

Scales go through zeros, subnormals, the largest finite values, infinity and NaN; all other bytes are random.
"""

import base64
import json
import warnings

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Bits of halves: +0, -0, least and largest subnormal, least normal, largest, ±1, infinity, NaN.
SCALES = [0x0000, 0x8000, 0x0001, 0x03FF, 0x8200, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00, 0x7C00, 0x7E01]
# Where the halves of a block lie.
SCALE_PLACES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def blocks_of(name: str, rng: np.random.Generator) -> np.ndarray:
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = {"F32": 64, "F16": 2048, "BF16": 1024}.get(name, 28 if size < 100 else 18)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place in SCALE_PLACES.get(name, []):
        # Half of the blocks have ordinary scales, as weights do.
        halves = rng.normal(0, 0.05, count).astype(np.float16)
        halves[: len(SCALES)] = rng.permutation(np.array(SCALES, np.uint16)).view(np.float16)
        blocks[:, place : place + 2] = halves.view(np.uint8).reshape(count, 2)
    if name == "F16":
        blocks[: len(SCALES)] = np.array(SCALES, np.uint16).view(np.uint8).reshape(-1, 2)
    return blocks


def main() -> None:
    rng = np.random.default_rng(20)
    vectors = {}
    for name in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]:
        blocks = blocks_of(name, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # infinity times zero
            values = dequantize(blocks.reshape(1, -1), GGMLQuantizationType[name])
        pack = lambda array: base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        vectors[name] = {"bytes": pack(blocks), "values": pack(values.astype(np.float32))}
    print(json.dumps(vectors, indent=0))


main()
