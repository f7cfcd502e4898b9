"""Writes what transformers computes with SmolLM2-135M-Instruct: logits of a few texts, and a greedy answer to a chat.

usage: make_golden.py SmolLM2-135M-Instruct.Q4_1.gguf    (torch on the CPU, float32, eager attention; writes beside itself)
"""

import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = 20
SAMPLE_STEP = 3001  # every so many ids a logit, whatever its rank; prime, so that no block of weights is favoured

TEXTS = {
    "prose": (
        "The lighthouse keeper had counted the steps so often that he no longer believed in the number. There were 217 of "
        "them, or 218 if one was honest about the sill, and on the evening of 14 November 1893 he climbed them twice, because "
        "he had left his matches on the kitchen table beside the letter. The letter was from his sister in Bergen. She wrote "
        "that the harbour had frozen, that the price of herring had risen by 35 per cent, and that their mother asked for him "
        "every day at a quarter past four. He lit the lamp, wound the clockwork, and sat down with his back to the warm brass. "
        "Below him the sea went on with what it had been doing since morning. A ship passed, then another, each with its own "
        "small light, and he wrote their names and bearings into the book, as he had done for 6,205 nights, in a hand that "
        "had grown smaller with the years, until it was almost too small to be read by anyone but himself."
    ),
    "code": (
        "def moving_average(values, width=5):\n    \"\"\"Mean of each run of `width` values; O(n).\"\"\"\n"
        "    if width < 1 or width > len(values):\n        raise ValueError(f\"width {width} is not in 1..{len(values)}\")\n"
        "    total = sum(values[:width])\n    means = [total / width]\n    for i in range(width, len(values)):\n"
        "        total += values[i] - values[i - width]\n        means.append(total / width)\n    return means\n\n\n"
        "assert moving_average([1, 2, 3, 4, 5, 6], 3) == [2.0, 3.0, 4.0, 5.0]\n\n"
        "for (let i = 0; i < rows.length; i++) {\n\tconst { id, price } = rows[i];\n"
        "\tif (price >= 1e3 && id !== null) total += Math.round(price * 100) / 100; // cents\n}\n"
    ),
    "figures": (
        "Year | Rain (mm) | Days | Note\n1961 | 804.2 | 151 | wettest May\n1962 | 655.9 | 133 |\n1963 | 712.0 | 140 | frost until "
        "12 April\n1964 | 598.7 | 121 | driest year\n1965 | 901.3 | 168 |\n\nThe mean of the five years is 734.42 mm, with a "
        "standard deviation of 119.6. Températures à midi: −3,5 °C; im Mai 2,25 €/m². 3.14159 × 2 = 6.28318; 2^16 = 65,536; "
        "0x1F4A9. Call +44 20 7946 0958 before 17:45."
    ),
}
QUESTION = "Why is the sky blue in the day and red in the evening? Explain it to a child."
ANSWER_TOKENS = 60


def main(path):
    source = dict(pretrained_model_name_or_path=os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path))
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, attn_implementation="eager").eval()
    tensors, cases = {}, []
    for name, text in TEXTS.items():
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = model(ids).logits[0]
        top = logits.topk(TOP, dim=-1)
        tensors[f"{name}.top_ids"] = top.indices.float().contiguous()  # below 2^24, so exact
        tensors[f"{name}.top_logits"] = top.values.contiguous()
        tensors[f"{name}.sample"] = logits[:, ::SAMPLE_STEP].contiguous()
        tensors[f"{name}.log_sum_exp"] = logits.logsumexp(-1).contiguous()
        cases.append({"name": name, "text": text, "ids": ids[0].tolist()})
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        answer = model.generate(ids, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0, ids.shape[1]:].tolist()
    # Spaces as they are: tokenizer clean-up would join punctuation.
    text = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    chat = {"messages": messages, "prompt": prompt, "ids": answer, "text": text}
    save_file(tensors, os.path.join(HERE, "logits.safetensors"))
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as file:
        json.dump({"sampleStep": SAMPLE_STEP, "cases": cases, "chat": chat}, file, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
