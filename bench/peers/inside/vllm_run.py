"""Measures vLLM on the CPU, its engine step by step in this process."""

import itertools
import os
import time

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

import common  # noqa: E402
import vllm  # noqa: E402


class Peer(common.Generating):
    def __init__(self, model, threads, settings):
        self.model = vllm.LLM(model, dtype=settings["dtype"], max_model_len=4096, max_num_seqs=common.BATCH, seed=0,
                              enable_prefix_caching=False, skip_tokenizer_init=True, disable_log_stats=True,
                              enforce_eager=settings.get("eager") == "1")
        self.number = itertools.count()

    def generate(self, prompts, output):
        """Moments of the first prompt's tokens."""
        engine = self.model.llm_engine
        sampling = vllm.SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, detokenize=False)
        names = [str(next(self.number)) for _ in prompts]
        for name, prompt in zip(names, prompts):
            engine.add_request(name, {"prompt_token_ids": prompt}, sampling)
        at = []
        while engine.has_unfinished_requests():
            answers, now = engine.step(), time.monotonic()
            for answer in answers:
                if answer.request_id == names[0]:
                    at += [now] * (len(answer.outputs[0].token_ids) - len(at))
        assert len(at) == output, f"{len(at)} tokens, not {output}"
        return at


common.main(Peer)
