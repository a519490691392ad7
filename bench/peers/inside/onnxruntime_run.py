"""Measures ONNX Runtime's generate() API."""

import json
import time

import common
import numpy
import onnxruntime_genai


class Peer(common.Generating):
    def __init__(self, model, threads, settings):
        config = onnxruntime_genai.Config(model)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self.model = onnxruntime_genai.Model(config)

    def generate(self, prompts, output):
        """Moments of the tokens."""
        length = len(prompts[0]) + output
        params = onnxruntime_genai.GeneratorParams(self.model)
        params.set_search_options(batch_size=len(prompts), do_sample=False, min_length=length, max_length=length)
        generator = onnxruntime_genai.Generator(self.model, params)
        generator.append_tokens(numpy.array(prompts, numpy.int32))
        at = []
        for _ in range(output):
            generator.generate_next_token()
            at.append(time.monotonic())
        assert len(generator.get_sequence(len(prompts) - 1)) == length
        return at


common.main(Peer)
