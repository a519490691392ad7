"""Measures CTranslate2."""

import json
import pathlib
import time

import common
import ctranslate2


class Peer:
    def __init__(self, model, threads, settings):
        vocabulary = json.loads((pathlib.Path(model) / "vocabulary.json").read_text())
        self.word = vocabulary.__getitem__
        self.model = ctranslate2.Generator(model, device="cpu", compute_type=settings["compute_type"], inter_threads=1,
                                           intra_threads=threads)

    def tokens(self, prompt, output):
        steps = self.model.generate_tokens([self.word(i) for i in prompt], max_length=output, sampling_topk=1, end_token=[])
        at = [time.monotonic() for _ in steps]
        assert len(at) == output, f"{len(at)} tokens, not {output}"
        return at

    def batch(self, prompts, output):
        answers = self.model.generate_batch([[self.word(i) for i in prompt] for prompt in prompts], max_length=output,
                                            sampling_topk=1, end_token=[], include_prompt_in_result=False)
        assert all(len(a.sequences_ids[0]) == output for a in answers)


common.main(Peer)
