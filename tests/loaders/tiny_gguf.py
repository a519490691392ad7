"""A GGUF file of a model folder, its tensors in blocks of many types. Needs numpy and gguf."""
import itertools
import json

import gguf
import numpy

from tools import loader_walk

BLOCKS = [getattr(gguf.GGMLQuantizationType, name) for name in ("Q8_0", "Q5_1", "F16", "Q4_0", "BF16", "Q4_1", "Q5_0")]
NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
       "lm_head.weight": "output.weight"}


def interleaved(rows, heads):
    """Each head's rows as llama.cpp has them: a channel of the first half beside its partner of the second."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write(folder, file, pre):
    """`pre`: how the tokenizer cuts words (tokenizer.ggml.pre). Rope scaling is left out: the values do not matter."""
    config = json.loads((folder / "config.json").read_text())
    out = gguf.GGUFWriter(file, config["model_type"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    if "head_dim" in config:
        out.add_key_length(config["head_dim"])
        out.add_value_length(config["head_dim"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_theta"])
    add_tokenizer(out, json.loads((folder / "tokenizer.json").read_text()), config, pre)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    kinds = itertools.cycle(BLOCKS)
    for name, tensor in loader_walk.read_weights(folder).items():
        values = numpy.array(tensor.values, numpy.float32)
        module = name.split(".")[-2]
        if config["model_type"] == "llama" and module in heads:
            values = interleaved(values, heads[module])
        kind = next(kinds) if values.ndim == 2 and values.shape[1] % 32 == 0 else gguf.GGMLQuantizationType.F32
        out.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def gguf_name(name):
    if name in TOP:
        return TOP[name]
    _, _, layer, module = name.split(".", 3)
    module, part = module.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{part}"


def add_tokenizer(out, tokenizer, config, pre):
    tokens = [f"[unused {i}]" for i in range(config["vocab_size"])]
    types = [gguf.TokenType.UNUSED] * len(tokens)
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, gguf.TokenType.NORMAL
    for token in tokenizer["added_tokens"]:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(tokens)
    out.add_token_types(types)
    out.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]])
    eos = config["eos_token_id"]
    out.add_eos_token_id(eos[0] if isinstance(eos, list) else eos)
    out.add_add_bos_token(False)
