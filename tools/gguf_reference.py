"""Independent GGUF -> Hugging Face float folder converter: the oracle for `octet convert`.

    python tools/gguf_reference.py MODEL.gguf OUTPUT_FOLDER [--chat "What's Deep Learning?"]

Handles the `llama` and `qwen2` architectures. Blocks are decoded by the `gguf` package and rounded to bfloat16;
the tokenizer is rebuilt from `tokenizer.ggml.*` with the `tokenizers` package. With --chat, the result is loaded
by transformers in float32 and answers greedily.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
import safetensors.torch
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # tokenizer.ggml.token_type
SHARD_BYTES = 2 << 30

BLOCK_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}

QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")


class Metadata:
    """The key/value part of a GGUF file."""

    def __init__(self, reader):
        self.fields = reader.fields
        self.arch = self.get("general.architecture")

    def get(self, key, default=None):
        return self.fields[key].contents() if key in self.fields else default

    def of_arch(self, key, default=None):
        return self.get(f"{self.arch}.{key}", default)


def short_float(value):
    """The shortest decimal that is the same float32: 9.999999747378752e-06 is 1e-05."""
    return float(str(np.float32(value)))


def hf_name(name):
    """Hugging Face's name of a GGUF tensor, or None for one that the folder does not need."""
    stem, kind = name.rsplit(".", 1)
    if stem == "rope_freqs":
        return None
    if stem.startswith("blk."):
        _, layer, part = stem.split(".")
        return f"model.layers.{layer}.{BLOCK_NAMES[part]}.{kind}"
    return f"{TOP_NAMES[stem]}.{kind}"


def undo_rope_order(rows, heads):
    """Rows of each head from llama.cpp's interleaved rope order to the halves that transformers expects."""
    width = rows.shape[0] // heads
    return rows.reshape(heads, width // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def float_tensors(reader, meta):
    """All tensors as bfloat16 under their Hugging Face names."""
    heads = {"attn_q": meta.of_arch("attention.head_count"), "attn_k": meta.of_arch("attention.head_count_kv")}
    result = {}
    for tensor in reader.tensors:
        name = hf_name(tensor.name)
        if name is None:
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if meta.arch == "llama" and part in heads:
            values = undo_rope_order(values, heads[part])
        result[name] = torch.from_numpy(np.array(values, dtype=np.float32)).to(torch.bfloat16)
    return result


def config_of(meta, tensors):
    """config.json of the float folder."""
    heads, hidden = meta.of_arch("attention.head_count"), meta.of_arch("embedding_length")
    config = {
        "architectures": [ARCHITECTURES[meta.arch]], "model_type": meta.arch, "hidden_act": "silu",
        "hidden_size": hidden, "intermediate_size": meta.of_arch("feed_forward_length"),
        "num_hidden_layers": meta.of_arch("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": meta.of_arch("attention.head_count_kv", heads),
        "max_position_embeddings": meta.of_arch("context_length"),
        "rms_norm_eps": short_float(meta.of_arch("attention.layer_norm_rms_epsilon")),
        "rope_theta": short_float(meta.of_arch("rope.freq_base", 10000.0)),
        "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "tie_word_embeddings": "lm_head.weight" not in tensors, "torch_dtype": "bfloat16",
        "initializer_range": 0.02, "use_cache": True,
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"), "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
    }
    if meta.arch == "llama":
        config |= {"head_dim": hidden // heads, "attention_bias": False, "mlp_bias": False, "rope_scaling": None}
    return config


def split_of(pre):
    """Normalizer and pre-tokenizer for a value of tokenizer.ggml.pre."""
    if pre == "smollm":
        return None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                              pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if pre == "qwen2":
        return normalizers.NFC(), pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise SystemExit(f"gguf_reference: unknown pre-tokenizer {pre!r}")


def tokenizer_of(meta):
    """The tokenizer rebuilt from the file's tokens, types and merges."""
    tokens, types = meta.get("tokenizer.ggml.tokens"), meta.get("tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in meta.get("tokenizer.ggml.merges")]
    last_normal = max(i for i, t in enumerate(types) if t == NORMAL)
    vocab = {t: i for i, t in enumerate(tokens) if i <= last_normal}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    normalizer, tok.pre_tokenizer = split_of(meta.get("tokenizer.ggml.pre"))
    if normalizer is not None:
        tok.normalizer = normalizer
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    for i, (token, kind) in enumerate(zip(tokens, types)):
        if kind == CONTROL:
            tok.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tok.add_tokens([AddedToken(token, special=False, normalized=False)])
        if kind in (CONTROL, USER_DEFINED) and tok.token_to_id(token) != i:
            raise SystemExit(f"gguf_reference: {token!r} got id {tok.token_to_id(token)}, the file says {i}")
    return tok


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def save_tokenizer(meta, tok, folder):
    tok.save(str(folder / "tokenizer.json"))
    tokens = meta.get("tokenizer.ggml.tokens")

    def special(role):
        index = meta.get(f"tokenizer.ggml.{role}_token_id")
        return None if index is None else tokens[index]

    adds_bos = bool(meta.get("tokenizer.ggml.add_bos_token", False))
    roles = {"bos_token": special("bos"), "eos_token": special("eos"), "pad_token": special("padding"),
             "unk_token": special("unknown")}
    write_json(folder / "special_tokens_map.json", {k: v for k, v in roles.items() if v is not None})
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": adds_bos, "add_prefix_space": False, "clean_up_tokenization_spaces": False,
        "chat_template": meta.get("tokenizer.chat_template"), "model_max_length": meta.of_arch("context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast", **roles})


def save_weights(tensors, folder):
    """model.safetensors, or shards of at most SHARD_BYTES with an index."""
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        if size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    where = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        safetensors.torch.save_file(shard, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for t in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def convert(source, folder):
    reader = gguf.GGUFReader(source)
    meta = Metadata(reader)
    if meta.arch not in ARCHITECTURES:
        raise SystemExit(f"gguf_reference: architecture {meta.arch!r} is not one of {', '.join(ARCHITECTURES)}")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = float_tensors(reader, meta)
    save_weights(tensors, folder)
    write_json(folder / "config.json", config_of(meta, tensors))
    ends = {"bos_token_id": meta.get("tokenizer.ggml.bos_token_id"), "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": meta.get("tokenizer.ggml.padding_token_id")}
    write_json(folder / "generation_config.json", {k: v for k, v in ends.items() if v is not None})
    save_tokenizer(meta, tokenizer_of(meta), folder)


def chat(folder, question, tokens):
    """Greedy chat answer through transformers in float32."""
    import transformers
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tok.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([tok(prompt, add_special_tokens=False).input_ids])
    out = model.generate(ids, max_new_tokens=tokens, do_sample=False)
    return tok.decode(out[0, ids.shape[1]:], skip_special_tokens=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--chat", help="a question to answer greedily after converting")
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    convert(args.source, args.folder)
    if args.chat:
        print(chat(args.folder, args.chat, args.tokens))


if __name__ == "__main__":
    main()
