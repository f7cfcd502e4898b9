"""Hugging Face transformers as a contender: float32, SDPA, the same GGUF file; the protocol is in protocol.ts.

usage: transformers-worker.py MODEL.gguf
"""

import json
import os
import resource
import sys
import time

# Whatever the libraries print belongs to stderr.
replies = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def reply(message):
    replies.write(json.dumps(message) + "\n")


def peak_bytes():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(path):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path), dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    reply({"versions": {"transformers": transformers.__version__, "torch": torch.__version__}})
    cache, token = None, None
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            if request["command"] == "memory":
                reply({"peakBytes": peak_bytes()})
                continue
            if request["command"] == "prefill":
                cache = None
                ids = torch.tensor([request["ids"]])
                begin = time.perf_counter()
                output = model(ids, use_cache=True, logits_to_keep=1)
                token = output.logits[:, -1:].argmax(-1)
                first = token.item()
                reply({"seconds": time.perf_counter() - begin, "token": first})
                cache = output.past_key_values
                del output
            else:
                tokens = []
                begin = time.perf_counter()
                for _ in range(request["count"]):
                    token = model(token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
                    tokens.append(token.item())
                reply({"seconds": time.perf_counter() - begin, "tokens": tokens})


try:
    main(sys.argv[1])
except Exception as error:
    reply({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
    sys.exit(1)
