"""Random checkpoints in the shapes of known models, a tokenizer for them, and what peers make of them, all kept in the cache."""

import json
import pathlib
import shutil

from peers import install

SHAPES = ["qwen2.5-0.5b", "qwen2.5-1.5b", "llama-3.2-1b"]
SPECIAL = ["<|unknown|>", "<|begin|>", "<|end|>"]  # token 2 is the end, as config.json says


def characters() -> list[str]:
    """The character that stands for each byte in a byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def tokenizer(size: int) -> dict:
    """A byte-level BPE of so many tokens, so that every id has a text: bytes, pairs of bytes, triples as far as needed."""
    single = characters()
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *single])}
    merges = []
    pairs = [(a, b) for a in single for b in single]
    triples = ((a + b, c) for a, b in pairs for c in single)
    for left, right in [*pairs, *(t for t, _ in zip(triples, range(size)))][:max(0, size - len(vocabulary))]:
        merges.append(f"{left} {right}")
        vocabulary[left + right] = len(vocabulary)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for i, word in enumerate(SPECIAL)],
            "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                      "merges": merges}}


def write_tokenizer(folder: pathlib.Path) -> None:
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(size), ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": SPECIAL[0], "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2], "clean_up_tokenization_spaces": False, "model_max_length": 32768}))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, "do_sample": False}))


def kept(name: str, make) -> pathlib.Path:
    """The folder of that name in the cache; make(folder) fills it, if it is not there. It appears whole or not at all."""
    folder = install.cache() / "models" / name
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            make(part)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


class Checkpoint:
    """A shape, with fewer layers than it has if asked: its float and its W8A8 folder."""

    def __init__(self, shape: str, layers: int, octet: pathlib.Path):
        self.shape = shape
        self.octet = octet
        self.layers = layers
        self.name = f"{shape}_{layers}_layers" if layers else shape

    def folder(self, kind: str) -> pathlib.Path:
        def make(folder: pathlib.Path) -> None:
            install.quiet(self.octet, "bench", "make-model", "--shape", self.shape, "--type", kind, "--out", folder,
                          "--quiet", *(["--layers", self.layers] if self.layers else []))
            write_tokenizer(folder)
        return kept(f"{self.name}/{kind.lower()}", make)

    def vocabulary(self) -> int:
        return json.loads((self.folder("FLOAT") / "config.json").read_text())["vocab_size"]

    def converted(self, name: str, make) -> pathlib.Path:
        return kept(f"{self.name}/{name}", make)
