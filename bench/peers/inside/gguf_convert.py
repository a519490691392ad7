"""Writes a float checkpoint of LLaMA's or Qwen2's architecture as GGUF, Q8_0 in every matrix, as llama-quantize does.

    python gguf_convert.py FLOAT OUT.gguf
"""

import json
import pathlib
import sys

import gguf
import numpy

PARTS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}


def tensors(folder: pathlib.Path):
    """Names and float32 arrays."""
    for path in sorted(folder.glob("*.safetensors")):
        data = numpy.memmap(path, numpy.uint8, "r")
        begin = 8 + int(data[:8].view("<u8")[0])
        for name, of in json.loads(bytes(data[8:begin])).items():
            if name != "__metadata__":
                assert of["dtype"] == "BF16", of
                first, last = of["data_offsets"]
                bits = data[begin + first:begin + last].view("<u2").astype(numpy.uint32) << 16
                yield name, bits.view(numpy.float32).reshape(of["shape"])


def there(name: str) -> str:
    if name in WHOLE:
        return WHOLE[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def interleaved(values: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Rows of q or k in the order in which GGUF's llama rotates them."""
    return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def main() -> None:
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    family = config["model_type"]
    writer = gguf.GGUFWriter(out, family)
    writer.add_name("random weights")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {token["content"] for token in tokenizer["added_tokens"]}
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words])
    writer.add_token_merges(tokenizer["model"]["merges"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)

    q8 = gguf.GGMLQuantizationType.Q8_0
    for name, values in tensors(folder):
        if family == "llama" and (".q_proj." in name or ".k_proj." in name):
            values = interleaved(values, heads if ".q_proj." in name else kv_heads)
        if values.ndim == 2:
            writer.add_tensor(there(name), gguf.quants.quantize(values, q8), raw_dtype=q8)
        else:
            writer.add_tensor(there(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
