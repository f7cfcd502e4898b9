"""Writes every-type.gguf with the gguf package's own writer, and every-type.json with what is in it.

    python make_gguf.py        (gguf 0.19, numpy 2.4)
"""

import base64
import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize

HERE = Path(__file__).parent
# Q4_K, Q5_K and Q6_K have no quantiser in the package; dequantise.json has them.
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


def main() -> None:
    rng = np.random.default_rng(21)
    writer = GGUFWriter(HERE / "every-type.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("test.uint8", 250)
    writer.add_int8("test.int8", -100)
    writer.add_uint16("test.uint16", 65_000)
    writer.add_int16("test.int16", -30_000)
    writer.add_uint32("test.uint32", 4_000_000_000)
    writer.add_int32("test.int32", -2_000_000_000)
    writer.add_float32("test.float32", 0.1)
    writer.add_uint64("test.uint64", 1 << 40)
    writer.add_uint64("test.uint64.large", (1 << 64) - 1)
    writer.add_int64("test.int64", -(1 << 40))
    writer.add_float64("test.float64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "\ufeffÄpfel 🍎\n")
    writer.add_array("test.strings", ["a", "", "\ufeff", "Ġthe"])
    writer.add_array("test.floats", [0.5, -1.5])
    writer.add_array("test.bools", [True, False])
    writer.add_key_value("test.int64s", [1, -(1 << 60)], GGUFValueType.ARRAY, GGUFValueType.INT64)
    writer.add_key_value("test.nested", [[1, 2], [3]], GGUFValueType.ARRAY, GGUFValueType.ARRAY)
    values = {}
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        packed = quantize(rng.normal(0, 1, (3, 64)).astype(np.float32), kind)
        writer.add_tensor(f"test.{name}", packed, raw_dtype=kind)
        values[name] = base64.b64encode(dequantize(packed, kind).astype(np.float32).tobytes()).decode()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (HERE / "every-type.json").write_text(json.dumps(values, indent=0) + "\n")


main()
