"""Writes tests/data/token_cases_*.json: what the Python `tokenizers` package makes of about 300 strings.

    python tools/token_cases.py

Each case: text, ids with and without special tokens, and the two decodings of the ids with special tokens.
"""

import json
import pathlib
import random

from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = {"llama3_tiny": "llama3_tiny_bf16", "qwen2_tiny": "qwen2_tiny_fp16", "qwen3_tiny": "qwen3_tiny_bf16"}
SEED = 11

PLAIN = [
    "", " ", "  ", "   ", "a", " a", "a ", "Hello", "Hello, world!", "hello WORLD", "What's Deep Learning?", "What is Deep Learning?",
    "I'm, you're, he'd, she'll, we've, it's, they'LL, DON'T, I'M", "'s 't 're", "don’t use “smart” quotes", "a.b.c", "...", "?!?!", "-- --- ----",
    "The cat is black.", "Question: is the cat black?\nAnswer:", "Answer: yes", " yes", " no", "yes", "no",
    "e-mail@example.org", "https://example.org/a/b?c=d&e=f#g", "C:\\path\\to\\file", "/usr/lib/x.so.1", "50 % of $3.50", "№ 5 § 6 © ® ™",
    "A very longwordwithoutanyspacesthatthetokenizerhasneverseen", "antidisestablishmentarianism", "Zyzzyva qwxz vbnm",
]
DIGITS = ["0", "7", "42", "123", "1234", "12345", "1234567890", "3.14159", "1,000,000", "-17", "+49 30 123456", "2024-02-29", "12:34:56", "0x1F", "1e-5",
          "7 + 5 = 12", "a1b22c333d4444", "x1", "1x", "１２３", "٣٤٥", "½ ² ³", "IV Ⅳ", " 1 22  333   4444", "007", "10th 21st", "9" * 40]
SPACES = ["\n", "\n\n", "\n\n\n", " \n", "\n ", " \n \n ", "\t", "\t\t", "a\tb", "\r\n", "a\r\nb", "a\rb", "a\n\nb", "a \n b", "a  b   c    d", "    indented",
          "trailing   ", "trailing\n", "\u00a0", "a\u00a0b", "a\u3000b", "\u200b", "a\u200bb", "\ufeffBOM", "a\u2028b", "\v\f", "line one\n  line two\n\tline three\n",
          "word\n\n\n   word", "x" + " " * 33 + "y", "\n" * 17]
SCRIPTS = ["你好", "你好，世界！", "深度学习是机器学习的一部分。", "中文 and English 混合", "今天是2024年2月29日", "我有３个苹果", "繁體中文", "日本語のテキスト", "カタカナとひらがな", "ｶﾀｶﾅ",
           "한국어 문장입니다.", "한글", "Привет, мир!", "Ελληνικά", "עברית", "مرحبا بالعالم", "हिन्दी में", "ไทย", "Tiếng Việt", "Größe straße ÄÖÜ", "naïve café", "Ça va?",
           "İstanbul ıi", "ﬁ ﬂ ligatures", "Ａｂｃ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠮷野家", "ʃəˈɡ", "ᚠᛇᚻ", "ქართული", "አማርኛ", "Hello你好Привет🙂123", "，。！？；：", "「引用」", "…—–"]
MARKS = ["e\u0301", "é", "cafe\u0301", "A\u030a", "Å", "\u212b", "n\u0303o", "o\u0302\u0323", "o\u0323\u0302", "\u1100\u1161\u11a8", "각", "\u0301", " \u0301", "a\u0301\u0302\u0303",
         "\u0958", "क़", "ṩ", "s\u0323\u0307", "\u2126", "Z\u0351\u036b", "\ufb01"]
EMOJI = ["😀", "😀😀", " 😀", "a😀b", "☀️", "❄️", "👋🏽", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "🏳️‍🌈", "1️⃣", "♥", "♥️", "🐱🐶🐴", "cat: 🐱", "🧑🏿‍🚀 in space", "(╯°□°)╯︵ ┻━┻", "ツ", "🫠"]
CODE = ["def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}", "if x==1: pass", "a->b::c<d>()", "#include <vector>\n", "SELECT * FROM t WHERE a = 'b';",
        "{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2, 3]}}", "<html><body class=\"x\">&amp;</body></html>", "$ ls -la | grep '^d' > out.txt", "x = [i**2 for i in range(10)]",
        "// comment\n/* block */", "camelCase snake_case kebab-case SCREAMING_CASE", "\\n \\t \\u1234", "```python\nprint('hi')\n```", "a+=b;c-=d;e*=f", "std::vector<std::pair<int, float>>",
        "lambda x: (x, -x)", "<<<<<<< HEAD\n=======\n>>>>>>>", "| a | b |\n|---|---|\n| 1 | 2 |", "# Title\n\n* one\n* two\n  * three\n"]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\nHello!<|eot_id|>", "<|im_start|>user\nHello!<|im_end|>\n", "<|im_start|>",
           "<|im_end|>", "<|endoftext|>", "a<|endoftext|>b", " <|im_end|> ", "<|im_end|><|im_end|>", "<|eot_id|>\n\n<|eot_id|>", "<| im_end |>", "<|im_end", "|im_end|>", "<tool_call>",
           "<tool_call>\n{}\n</tool_call>", "x<tool_response>y</tool_response>z", "< tool_call >", "<|python_tag|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>",
           "<|IM_END|>", "<s></s>[INST]", "你<|im_end|>好", "e<|im_end|>\u0301", "<|begin_of_text|><|begin_of_text|>x"]
ODD = ["\0", "a\0b", "\x01\x02\x1b[0m", "\x7f", "\x80", "\ufffd", "\ue000", "\U0010ffff", "\u202eabc\u202c", "\u00ad soft", "a" * 200, "ab" * 100, "!" * 60, "é" * 30, "你" * 50]


def mixtures(count):
    """Random sequences of the pieces above, with and without spaces between them."""
    rng = random.Random(SEED)
    pool = [piece for group in (PLAIN, DIGITS, SPACES, SCRIPTS, MARKS, EMOJI, CODE, SPECIAL) for piece in group]
    return [rng.choice(["", " ", "\n"]).join(rng.sample(pool, rng.randint(2, 5))) for _ in range(count)]


def strings():
    fixed = PLAIN + DIGITS + SPACES + SCRIPTS + MARKS + EMOJI + CODE + SPECIAL + ODD
    return list(dict.fromkeys(fixed + mixtures(80)))


def case(tok, text):
    ids = tok.encode(text, add_special_tokens=True).ids
    return {"text": text, "ids": ids, "ids_without_special": tok.encode(text, add_special_tokens=False).ids,
            "decoded": tok.decode(ids, skip_special_tokens=False),
            "decoded_without_special": tok.decode(ids, skip_special_tokens=True)}


def main():
    folder = ROOT / "tests" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in MODELS.items():
        tok = Tokenizer.from_file(str(ROOT / "models" / model / "tokenizer.json"))
        lines = ",\n".join(json.dumps(case(tok, text), ensure_ascii=True) for text in strings())
        (folder / f"token_cases_{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(name, len(strings()))


if __name__ == "__main__":
    main()
