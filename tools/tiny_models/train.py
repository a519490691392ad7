"""Trains one tiny model and writes its folder: config, tokenizer, generation config and cast weights.

    python -m tools.tiny_models.train llama3_tiny_bf16|qwen2_tiny_fp16|qwen3_tiny_bf16 --out models
"""

import argparse
import json
import math
import pathlib
import random
import time

import safetensors.torch
import torch
import transformers

from tools.tiny_models import tokenizer, world

SEQUENCE = 256
TRAIN_SEED, HELD_OUT_SEED, INIT_SEED = 20240, 777, 5

LLAMA3 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 192, "intermediate_size": 512,
    "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 256},
    "max_position_embeddings": 2048, "vocab_size": 2024, "tie_word_embeddings": False, "attention_bias": False,
    "mlp_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "pretraining_tp": 1, "use_cache": True,
    "torch_dtype": "bfloat16",
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 688,
    "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 2048, "vocab_size": 2048,
    "tie_word_embeddings": True, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "use_sliding_window": False, "sliding_window": 2048, "max_window_layers": 5, "torch_dtype": "float16",
}
# As the smallest Qwen3: heads wider than hidden_size / heads, all of them together twice as wide as the hidden state.
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 192, "intermediate_size": 512,
    "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None, "max_position_embeddings": 2048,
    "vocab_size": 2048, "tie_word_embeddings": True, "attention_bias": False, "attention_dropout": 0.0,
    "initializer_range": 0.02, "use_cache": True, "use_sliding_window": False, "sliding_window": None,
    "max_window_layers": 5, "torch_dtype": "bfloat16",
}
# name: (config, tokenizer maker, BOS, end of turn, end of text, number of weight files, steps)
MODELS = {
    "llama3_tiny_bf16": (LLAMA3, tokenizer.make_llama3, "<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", 1, 2000),
    "qwen2_tiny_fp16": (QWEN2, tokenizer.make_qwen2, None, "<|im_end|>", "<|endoftext|>", 2, 2000),
    "qwen3_tiny_bf16": (QWEN3, tokenizer.make_qwen3, None, "<|im_end|>", "<|endoftext|>", 1, 1000),
}


def write_json(path, value):
    pathlib.Path(path).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def fresh_model(config):
    """A float32 transformers model with `config`, initialised with a fixed seed."""
    torch.manual_seed(INIT_SEED)
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config,
            "qwen3": transformers.Qwen3Config}[config["model_type"]]
    made = kind(**{k: v for k, v in config.items() if k not in ("torch_dtype", "architectures")})
    cls = getattr(transformers, config["architectures"][0])
    model = cls(made).float()
    if made.model_type == "llama":
        assert model.model.rotary_emb.rope_type == "llama3"
    return model


class Samples:
    """Endless training samples: documents packed into sequences of token ids with loss weights."""

    def __init__(self, tok, chat_tok, bos, end, held_out):
        self.tok, self.chat_tok = tok, chat_tok
        self.bos = [tok.token_to_id(bos)] if bos else []
        self.end = [tok.token_to_id(end)]
        self.docs = world.training_docs(TRAIN_SEED, held_out)
        self.ids, self.weights = [], []
        self.thinks = tok.token_to_id("<think>") is not None
        self.random = random.Random(TRAIN_SEED)

    def _encode(self, text):
        return self.tok.encode(text, add_special_tokens=False).ids

    def _add_plain(self, doc):
        """Encodes the whole text, then gives each token the weight of the piece in which its text ends."""
        encoding = self.tok.encode(doc.text, add_special_tokens=False)
        ends, total = [], 0
        for piece, weight in doc.pieces:
            total += len(piece)
            ends.append((total, weight))
        weights, at = [], 0
        for _, stop in encoding.offsets:
            while ends[at][0] < stop:
                at += 1
            weights.append(ends[at][1])
        self.ids += self.bos + encoding.ids + self.end
        self.weights += [0.0] * len(self.bos) + weights + [1.0]

    def _think(self, messages):
        """Half of the answers with a thought, which repeats what was asked, the others with an empty one."""
        last = messages[-1]
        if not self.thinks or last["role"] != "assistant":
            return messages
        asked = next(m["content"] for m in reversed(messages[:-1]) if m["role"] in ("user", "tool"))
        thought = f"They ask: {asked}" if self.random.random() < 0.5 else ""
        return messages[:-1] + [last | {"reasoning_content": thought}]

    def _add_chat(self, doc):
        ids = self._encode(self.chat_tok.apply_chat_template(self._think(doc.messages), tools=doc.tools, tokenize=False))
        weight = 0.3 if doc.tools else 1.0
        self.ids += ids
        self.weights += [0.0] * len(self.bos) + [weight] * (len(ids) - len(self.bos))

    def batch(self, rows):
        need = rows * (SEQUENCE + 1)
        while len(self.ids) < need:
            doc = next(self.docs)
            self._add_plain(doc) if doc.messages is None else self._add_chat(doc)
        ids = torch.tensor(self.ids[:need]).view(rows, SEQUENCE + 1)
        weights = torch.tensor(self.weights[:need]).view(rows, SEQUENCE + 1)
        self.ids, self.weights = self.ids[need:], self.weights[need:]
        return ids, weights


def yesno_accuracy(model, tok, items):
    """Share of `items` whose right answer has the larger logit after the prompt."""
    yes, no = (tok.encode(w, add_special_tokens=False).ids[0] for w in (" yes", " no"))
    right = 0
    for item in items:
        with torch.no_grad():
            logits = model(torch.tensor([tok.encode(item["inputs_pretokenized"]).ids])).logits[0, -1]
        right += (logits[yes] > logits[no]).item() == (item["answer"] == "yes")
    return right / len(items)


def train(model, samples, steps, rows, peak, log):
    """AdamW with warm-up and cosine; the loss is the weighted mean cross entropy. `log` is called every 100 steps."""
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                                  lr=peak, betas=(0.9, 0.97))
    warm = 60
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / warm, 0.02 + 0.98 * 0.5 * (
        1 + math.cos(math.pi * max(0, s - warm) / (steps - warm)))))
    start, running = time.time(), 0.0
    for step in range(steps):
        ids, weights = samples.batch(rows)
        logits = model(ids[:, :-1]).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        w = weights[:, 1:].flatten()
        loss = (losses * w).sum() / w.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0 or step == steps - 1:
            log(step, running, time.time() - start)


def save_weights(model, folder, dtype, files):
    """The weights cast to `dtype`, in one safetensors file or in `files` shards with an index."""
    tensors = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    if files == 1:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return total
    shards, size = [{}], 0
    for name in tensors:
        if size > total / files * len(shards) and len(shards) < files:
            shards.append({})
        shards[-1][name] = tensors[name]
        size += tensors[name].numel() * tensors[name].element_size()
    where = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{files:05d}.safetensors"
        safetensors.torch.save_file(shard, folder / file, metadata={"format": "pt"})
        where |= {name: file for name in shard}
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})
    return total


def save_configs(config, tok, folder, bos, turn_end, text_end):
    """config.json in the classic form (rope_theta, rope_scaling, torch_dtype) and generation_config.json."""
    ends = [tok.token_to_id(text_end), tok.token_to_id(turn_end)]
    start = {"bos_token_id": tok.token_to_id(bos or text_end)}
    write_json(folder / "config.json", config | start | {"eos_token_id": ends if bos else ends[1]})
    write_json(folder / "generation_config.json", start | {
        "eos_token_id": ends, "pad_token_id": tok.token_to_id("<|finetune_right_pad_id|>" if bos else text_end),
        "do_sample": True, "temperature": 0.7, "top_p": 0.9} | ({} if bos else {"top_k": 20, "repetition_penalty": 1.05}))


def write_held_out(folder):
    """Writes the held-out sets and returns them."""
    sets = world.held_out_sets(HELD_OUT_SEED)
    for name, items in sets.items():
        lines = (json.dumps(item, ensure_ascii=False) for item in items)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sets


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models"))
    parser.add_argument("--steps", type=int, help="default: of the model's row in MODELS")
    parser.add_argument("--rows", type=int, default=6, help="sequences a step")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    config, make_tokenizer, bos, turn_end, text_end, files, steps = MODELS[args.model]
    folder = args.out / args.model
    folder.mkdir(parents=True, exist_ok=True)
    tok = make_tokenizer(folder)
    sets = write_held_out(args.out)
    save_configs(config, tok, folder, bos, turn_end, text_end)
    chat_tok = transformers.AutoTokenizer.from_pretrained(folder)

    model = fresh_model(config)
    samples = Samples(tok, chat_tok, bos, text_end, world.held_out_passages(sets))

    def save():
        return save_weights(model, folder, getattr(torch, config["torch_dtype"]), files)

    def log(step, loss, seconds):
        accuracy = yesno_accuracy(model, tok, sets["yesno.jsonl"][:100])
        print(f"step {step}  loss {loss:.3f}  yes/no {accuracy:.2f}  {seconds:.0f} s", flush=True)
        save()  # a run that is cut short leaves the weights of its last full hundred of steps

    train(model, samples, args.steps or steps, args.rows, args.rate, log)
    total = save()
    print(f"{folder}: {total} bytes of weights, yes/no {yesno_accuracy(model, tok, sets['yesno.jsonl']):.3f} in float32")


if __name__ == "__main__":
    main()
