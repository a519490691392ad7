"""Measures OpenVINO GenAI. Settings are properties of the CPU plugin."""

import time

import common
import numpy
import openvino
import openvino_genai


class Clock(openvino_genai.StreamerBase):
    def __init__(self):
        super().__init__()
        self.at = []

    def write(self, tokens):
        now = time.monotonic()
        self.at += [now] * (1 if isinstance(tokens, int) else len(tokens))
        return openvino_genai.StreamingStatus.RUNNING

    def end(self):
        pass


class Peer:
    def __init__(self, model, threads, settings):
        numbers = {key: int(value) if value.isdigit() else value for key, value in settings.items()}
        self.model = openvino_genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads, **numbers)

    def generate(self, prompts, output, *streamer):
        ids = numpy.array(prompts, numpy.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig(max_new_tokens=output, ignore_eos=True, do_sample=False)
        answer = self.model.generate(inputs, config, *streamer)
        assert all(len(tokens) == output for tokens in answer.tokens)

    def tokens(self, prompt, output):
        clock = Clock()
        self.generate([prompt], output, clock)
        assert len(clock.at) == output, f"{len(clock.at)} tokens, not {output}"
        return clock.at

    def batch(self, prompts, output):
        self.generate(prompts, output)


common.main(Peer)
