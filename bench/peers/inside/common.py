"""What the programs in a peer's environment share: their command line, prompts, clocks and answers.

    python NAME_run.py MODEL --threads 2 --repeat 2 --started T --vocabulary N [--setting KEY=VALUE ...] MEASURE ...

Each prints a line "=> MEASURE VALUE" per measure. A peer is an object with

    tokens(prompt, output)    one sequence; the moments (time.monotonic) at which each of `output` tokens was there
    batch(prompts, output)    sequences of one length together, `output` tokens of each
"""

import argparse
import random
import time

BATCH, BATCH_PROMPT, BATCH_OUTPUT = 16, 128, 64
DECODED = 32


class Generating:
    """A peer with generate(prompts, output), which gives the moments of the first prompt's tokens."""

    def tokens(self, prompt, output):
        return self.generate([prompt], output)

    def batch(self, prompts, output):
        self.generate(prompts, output)


def main(load) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("measures", nargs="+")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    parser.add_argument("--started", type=float, required=True)
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--setting", action="append", default=[])
    args = parser.parse_intermixed_args()
    drawn = random.Random(0)

    def prompt(tokens: int) -> list[int]:  # a new one each time: nothing to be had from a prefix cache
        return [drawn.randrange(300, args.vocabulary) for _ in range(tokens)]

    def prefill_and_decode(tokens: int, decoded: int) -> tuple[float, float]:
        begin = time.monotonic()
        at = peer.tokens(prompt(tokens), 1 + decoded)
        return tokens / (at[0] - begin), decoded / (at[-1] - at[0]) if decoded else 0

    def best(*arguments) -> list[float]:
        return [max(column) for column in zip(*(prefill_and_decode(*arguments) for _ in range(args.repeat)))]

    def offline() -> float:
        begin = time.monotonic()
        peer.batch([prompt(BATCH_PROMPT) for _ in range(BATCH)], BATCH_OUTPUT)
        return BATCH * BATCH_OUTPUT / (time.monotonic() - begin)

    def say(measure: str, value: float) -> None:
        if measure in args.measures:
            print("=>", measure, value, flush=True)

    peer = load(args.model, args.threads, dict(s.split("=", 1) for s in args.setting))
    if args.measures == ["start"]:
        return say("start", peer.tokens(prompt(128), 1)[0] - args.started)
    peer.tokens(prompt(16), 4)  # warms up
    if "prefill512" in args.measures:
        say("prefill512", best(512, 0)[0])
    if "decode128" in args.measures:
        say("decode128", best(128, DECODED)[1])
    if {"prefill2048", "decode2048"} & set(args.measures):
        prefill, decode = prefill_and_decode(2048, DECODED)
        say("prefill2048", prefill)
        say("decode2048", decode)
    if "offline16" in args.measures:
        say("offline16", offline())
