"""Writes the tokenizer cases beside it: what the original libraries answer, for longctx to be compared with.

    python make_tokenizer_cases.py SmolLM2-135M-Instruct.Q4_1.gguf novel.txt

The judges: Hugging Face's Rust `tokenizers` (0.23) and Google's `sentencepiece` (0.2), with the pre-tokenizers that the
models' own tokenizer.json name. `novel.txt` is any English text of a few hundred kB (used: Pride and Prejudice).
"""

import io
import json
import sys
from pathlib import Path

import gguf
import jinja2
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    "I'm sure they're here; we've won, you'll see. He'd say it's DON'T, CAN'T, I'LL and O'Brien's 'tis.",
    "The pass key is 71432. Remember it. 71432 is the pass key.",
    "1234567890 3.14159 1,000,000 0x1F 10^6 2024-02-29 v1.2.3 007 ½ ² Ⅷ ١٢٣ ४५ 1st",
    "in 1815 the 3rd of 12 at 5pm: £10,000 a year",
    "a  b   c    d     e      f",
    "   leading and trailing   ",
    "tab\tseparated\t\tvalues\n",
    "line one\nline two\r\nline three\n\n\nline four\n  indented\n\n",
    "\n\n \n \n\t\n",
    "def f(x: int) -> int:\n    # twice\n    return x * 2  # = x<<1\n\n\nprint(f(21))\n",
    "for (let i = 0; i < n; ++i) { a[i] += b[i] ?? 0; } // done?!...",
    "SELECT * FROM `users` WHERE id=42 AND name<>'x';",
    "https://example.org/path/to/file_name.html?q=a+b&c=%20#top",
    "naïve café résumé Ångström Ærøskøbing",
    "nai\u0308ve cafe\u0301 A\u030angstro\u0308m",
    "Привет, мир! Ελληνικά, שלום, مرحبا",
    "今天天气很好。明日は晴れです。 한국어 문장입니다.",
    "我有3只猫，2条狗！",
    "हिन्दी में परीक्षण ภาษาไทย",
    "👋 🌍! 👩‍👩‍👧‍👦 🇫🇷🇩🇪 👍🏽 ❤️ ok",
    "zero\u200bwidth nbsp\u00a0here \u2003em \u0085nel \ufeffbom \u3000wide",
    "“Curly quotes” — and ‘dashes’ – and… ellipsis",
    "camelCaseWords snake_case_words SCREAMING_CASE XMLHttpRequest iPhone15Pro",
    "word123word 4x4 a1b2c3 H2O CO2e R2-D2",
    "$100 +5 -3 =7 <b>bold</b> ~tilde~ `tick` ^caret| |pipe|",
    "!!! ??? ... --- === ***bold*** ///path//",
    "e.g. i.e. U.S.A. Mr. Darcy's",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "before<|endoftext|>after <|im_end|> spaced <|im_start|><|im_end|>",
    "<|im_start almost <|im_end|",
    "control \u0001\u0002\u007f chars",
    "math: ∑ᵢ xᵢ² ≤ ∫ f(x) dx ∈ ℝ",
    "x" * 300,
    "ab" * 40 + " " * 40 + "\n" * 20 + "-" * 40 + "9" * 40,
]

MESSAGES = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Sure?"}],
]

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
O200K = LETTERS + r"|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
DEEPSEEK_V3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


def split(*patterns):
    return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


DIGITS = [pre_tokenizers.Digits(individual_digits=True), byte_level(True)]
PRE_TOKENIZERS = {
    "default": [*split(r"[\p{P}\$\+<=>\^~\|]+", WORDS, r"\p{N}+", r"[0-9][0-9][0-9]"), byte_level(False)],
    "gpt-2": [byte_level(True)],
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "llama-bpe": [*split(CL100K % r"\p{N}{1,3}"), byte_level(False)],
    "dbrx": [*split(CL100K % r"\p{N}{1,3}"), byte_level(False)],
    "qwen2": [*split(CL100K % r"\p{N}"), byte_level(False)],
    "deepseek-coder": [*split(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+"), pre_tokenizers.Digits(individual_digits=True), byte_level(False)],
    "deepseek-v3": [*split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3), byte_level(False)],
    "tekken": [*split(O200K % ("", "", r"\p{N}")), byte_level(False)],
    "gpt-4o": [*split(O200K % (ENDING, ENDING, r"\p{N}{1,3}")), byte_level(False)],
}  # fmt: skip
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write(name, value):
    # One entry a line, so that a change can be read.
    lines = [f"{json.dumps(key)}: {line(entry)}" for key, entry in value.items()]
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def line(entry):
    if isinstance(entry, list) and entry and isinstance(entry[0], (list, dict)):
        return "[\n" + ",\n".join(json.dumps(part, ensure_ascii=False, separators=(",", ":")) for part in entry) + "\n]"
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def smollm2(path):
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.fields[f"tokenizer.{key}"].contents()
    tokens, types = value("ggml.tokens"), value("ggml.token_type")
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in value("ggml.merges")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(DIGITS)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, types) if kind == 3])
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(value("chat_template"))
    cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS]
    chats = [{"messages": messages, "text": template.render(messages=messages, add_generation_prompt=True, bos_token=tokens[1], eos_token=tokens[2])} for messages in MESSAGES]
    write("smollm2-cases.json", {"cases": cases, "chats": chats})


def corpus(novel):
    return [novel[:60_000]] + [text for text in TEXTS if "<|" not in text and len(set(text)) > 3] * 40


def byte_level_cases(novel):
    # Merges that cross words, digits and signs: only the pre-tokenizer keeps them apart.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(False)
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, max_token_length=12)
    pieces = [text[i : i + 24] for text in corpus(novel) for i in range(0, len(text), 24)]
    tokenizer.train_from_iterator(pieces, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    judged = {}
    for name, parts in PRE_TOKENIZERS.items():
        judge = Tokenizer(models.BPE(model["vocab"], [tuple(merge) for merge in model["merges"]], ignore_merges=name in ("llama-bpe", "tekken")))
        judge.pre_tokenizer = pre_tokenizers.Sequence(parts)
        if name == "qwen2":
            judge.normalizer = normalizers.NFC()
        judge.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
        judged[name] = [judge.encode(text).ids for text in TEXTS]
    ignored = {f"ids of {name}": ids for name, ids in judged.items()}
    write("byte-level-cases.json", {"tokens": tokens, "merges": [" ".join(merge) for merge in model["merges"]], "special": SPECIAL, "texts": TEXTS, **ignored})


def sentencepiece_cases(novel):
    out = io.BytesIO()
    lines = [text for text in "\n".join(corpus(novel)).split("\n") if text.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="bpe", vocab_size=1200, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.995, allow_whitespace_only_pieces=True, minloglevel=2,
    )  # fmt: skip
    judge = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    ids = range(judge.get_piece_size())
    kind = lambda i: 2 if judge.is_unknown(i) else 3 if judge.is_control(i) else 6 if judge.is_byte(i) else 1
    # SentencePiece knows no control tokens in a text, and drops nothing else.
    texts = [text for text in TEXTS if text]
    write(
        "sentencepiece-cases.json",
        {
            "tokens": [judge.id_to_piece(i) for i in ids],
            "scores": [judge.get_score(i) for i in ids],
            "types": [kind(i) for i in ids],
            "cases": [{"text": text, "ids": judge.encode(text), "decoded": judge.decode(judge.encode(text))} for text in texts],
        },
    )


def folder_cases(novel):
    """tokenizer.json files of each kind, with the components that JavaScript computes otherwise."""
    lines = [line for line in "\n".join(corpus(novel)).split("\n") if line]

    def trained(model, trainer, **parts):
        tokenizer = Tokenizer(model)
        for name, part in parts.items():
            setattr(tokenizer, name, part)
        tokenizer.train_from_iterator(lines, trainer)
        return tokenizer

    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first")
    unigram = trained(
        models.Unigram(), trainers.UnigramTrainer(vocab_size=700, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False),
        normalizer=normalizers.NFKC(), pre_tokenizer=metaspace, decoder=decoders.Metaspace(prepend_scheme="first"),
    )  # fmt: skip
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    wordpiece = trained(
        models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=700, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
        normalizer=normalizers.BertNormalizer(), pre_tokenizer=pre_tokenizers.BertPreTokenizer(), decoder=decoders.WordPiece(),
    )  # fmt: skip
    wordpiece.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    bpe = lambda: trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>"], show_progress=False, max_token_length=10)
    gathered = {"unigram": unigram, "wordpiece": wordpiece}
    for name, part in {
        "prefix-space": pre_tokenizers.ByteLevel(add_prefix_space=True),
        "whitespace": pre_tokenizers.Whitespace(),
        "punctuation": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.Digits()]),
        "contiguous": pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.WhitespaceSplit()]),
        "merged-with-previous": pre_tokenizers.Split(Regex(r"[\s\d]"), "merged_with_previous"),
        "merged-with-next": pre_tokenizers.Split(" ", "merged_with_next"),
        "inverted": pre_tokenizers.Split(Regex(r"\w+"), "isolated", invert=True),
        "removed": pre_tokenizers.Split(Regex(r"\s+"), "removed"),
        "delimiter": pre_tokenizers.CharDelimiterSplit("a"),
        "metaspace-never": pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
    }.items():
        decoder = decoders.ByteLevel() if name == "prefix-space" else decoders.Metaspace(prepend_scheme="never") if name == "metaspace-never" else decoders.Fuse()
        gathered[name] = trained(models.BPE(unk_token="<unk>"), bpe(), pre_tokenizer=part, decoder=decoder)
    texts = [text for text in TEXTS if "<|" not in text]
    value = {"texts": texts}
    for name, tokenizer in gathered.items():
        answers = [tokenizer.encode(text).ids for text in texts]
        value[name] = {"json": json.loads(tokenizer.to_str()), "ids": answers, "decoded": [tokenizer.decode(ids) for ids in answers]}
    write("folder-cases.json", value)


if __name__ == "__main__":
    novel = Path(sys.argv[2]).read_text(encoding="utf-8")
    smollm2(sys.argv[1])
    byte_level_cases(novel)
    sentencepiece_cases(novel)
    folder_cases(novel)
