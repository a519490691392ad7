"""Makes tests/golden/qwen3_bf16: a small random Qwen3 (head_dim apart from hidden / heads, norms of queries and keys),
token samples, and what transformers computes of it in float32 (tests/data/qwen3_logits.safetensors).

    python tools/qwen3_golden.py
"""

import json
import pathlib

import safetensors.torch
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 512, "vocab_size": 160,
    "tie_word_embeddings": False, "attention_bias": False, "use_sliding_window": False, "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}


def main():
    torch.manual_seed(11)
    known = {k: v for k, v in CONFIG.items() if k not in ("architectures", "torch_dtype")}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**known)).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:  # norms: far from one, so that a norm left out or put elsewhere shows
                p.copy_(torch.rand_like(p) * 1.5 + 0.25)
            else:
                p.copy_(torch.randn_like(p) * (1.0 if "embed" in name else 1.5 / p.shape[1] ** 0.5))
            p.copy_(p.bfloat16().float())
    out = ROOT / "tests/golden/qwen3_bf16"
    (out / "model").mkdir(parents=True, exist_ok=True)
    tensors = {k: v.bfloat16().contiguous() for k, v in model.state_dict().items()}
    safetensors.torch.save_file(tensors, out / "model/model.safetensors", metadata={"format": "pt"})
    (out / "model/config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    generator = torch.Generator().manual_seed(3)
    samples = [torch.randint(3, 160, (n,), generator=generator).tolist() for n in (24, 17, 32, 9, 28, 20)]
    (out / "calib_tokens.json").write_text(json.dumps(samples) + "\n")
    golden = {}
    with torch.no_grad():
        for i, ids in enumerate(samples[:2]):
            golden[f"prompt{i}.ids"] = torch.tensor(ids, dtype=torch.int32)
            golden[f"prompt{i}.logits"] = model(torch.tensor([ids])).logits[0].contiguous()
    safetensors.torch.save_file(golden, ROOT / "tests/data/qwen3_logits.safetensors")
    print({k: tuple(v.shape) for k, v in golden.items()}, float(golden["prompt0.logits"].abs().max()))


if __name__ == "__main__":
    main()
