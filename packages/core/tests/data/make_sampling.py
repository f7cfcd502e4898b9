"""Probabilities after Hugging Face transformers' logits processors, in the order of its `generate`: python make_sampling.py"""

import json

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

torch.manual_seed(0)
CASES = [
    {"temperature": 1},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"temperature": 1, "topK": 3},
    {"temperature": 1, "topP": 0.7},
    {"temperature": 1.5, "topP": 0.2},
    {"temperature": 0.8, "minP": 0.15},
    {"temperature": 1.2, "topK": 9, "topP": 0.6},
    {"temperature": 2, "topK": 12, "topP": 0.9, "minP": 0.2},
    {"temperature": 1, "repetitionPenalty": 1.8},
    {"temperature": 0.7, "repetitionPenalty": 0.5, "topK": 5},
    {"temperature": 1.1, "repetitionPenalty": 1.3, "topP": 0.8, "minP": 0.1},
]
WARPERS = [
    ("repetitionPenalty", RepetitionPenaltyLogitsProcessor),
    ("temperature", lambda t: TemperatureLogitsWarper(float(t))),
    ("topK", TopKLogitsWarper),
    ("topP", TopPLogitsWarper),
    ("minP", MinPLogitsWarper),
]

cases = []
for options in CASES:
    logits = torch.randn(1, 16) * 2
    text = torch.randint(0, 16, (1, 5))
    chain = LogitsProcessorList([make(options[name]) for name, make in WARPERS if name in options])
    probabilities = torch.softmax(chain(text, logits.clone()).double(), -1)
    cases.append({"options": options, "text": text[0].tolist(), "logits": logits[0].tolist(), "probabilities": probabilities[0].tolist()})
with open("sampling.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
