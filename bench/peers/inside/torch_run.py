"""Measures transformers on torch, as it comes."""

import time

import common
import torch
import transformers


class Peer(common.Generating):
    def __init__(self, model, threads, settings):
        torch.set_num_threads(threads)
        dtype = getattr(torch, settings["dtype"])
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()

    @torch.inference_mode()
    def generate(self, prompts, output):
        ids, cache, at = torch.tensor(prompts), transformers.DynamicCache(config=self.model.config), []
        for _ in range(output):
            logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)
            ids.tolist()
            at.append(time.monotonic())
        return at


common.main(Peer)
