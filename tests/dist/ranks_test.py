"""`octet serve` on several ranks of this host: the tokens of one rank, and what happens when ranks fail.

    ranks_test.py OCTET [--thorough]

--thorough: more prompts, longer answers, more numbers of ranks.
"""
import os
import signal
import socket
import sys
import threading
import unittest

THOROUGH = "--thorough" in sys.argv
sys.argv = [word for word in sys.argv if word != "--thorough"]
from serving import LLAMA, PROMPTS, QWEN, Ranked, Server, Verbs, below, gone, until  # noqa: E402


class SameTokens(Verbs):
    def compare(self, model, numbers):
        prompts, tokens = (PROMPTS[:50], 64) if THOROUGH else (PROMPTS[:8], 24)
        server = Server(self, model, 1)
        want = server.greedy(prompts, tokens)
        self.assertEqual(server.end(), 0)
        for ranks in numbers:
            with self.subTest(model=model.name, ranks=ranks):
                server = Server(self, model, ranks)
                self.assertEqual(len(server.ranks()), ranks)
                self.assertEqual(server.greedy(prompts, tokens), want)
                self.assertEqual(server.end(), 0, server.text())

    def test_float(self):
        self.compare(LLAMA, [2, 3, 4, 5, 6] if THOROUGH else [3])
        self.compare(QWEN, [2, 3, 4, 5, 8] if THOROUGH else [5])

    def test_int8(self):
        for model, numbers in (LLAMA, [2, 5]), (QWEN, [8]):
            out = self.dir / f"{model.name}-w8a8"
            self.good("quantize", model, out, "--quiet", "--recipe", "octet-fast")
            self.compare(out, numbers)


class Refused(Verbs):
    def test_what_is_wrong_shows_once_and_at_once(self):
        self.bad(2, ["--tp", "1 to 6", "7"], "serve", LLAMA, "--tp", "7")
        self.bad(1, "no/such", "serve", self.dir / "no/such", "--tp", "2")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.bad(1, str(taken.getsockname()[1]), "serve", LLAMA, "--tp", "2", "--host", "127.0.0.1", "--port",
                     str(taken.getsockname()[1]))

    def test_two_servers_at_once(self):
        first, second = Server(self, LLAMA, 2), Server(self, LLAMA, 3)
        self.assertEqual(first.greedy(PROMPTS[:2], 8), second.greedy(PROMPTS[:2], 8))
        self.assertEqual((first.end(), second.end()), (0, 0))


class Faults(Ranked):
    def lose(self, how, rank, streaming):
        server = Server(self, LLAMA, 3)
        process = server.ranks()[rank]
        seen = set()
        watch = threading.Thread(target=lambda: until(lambda: seen.add(server.health()) or server.process.poll() is not None, 20))

        def fault():
            os.kill(process, how)
            watch.start()
        self.ends(server, fault, f"rank {rank} of 3 (process {process})", stream=server.stream() if streaming else None)
        watch.join()
        self.assertIn(503, seen)

    def test_killed_while_it_streams(self):
        self.lose(signal.SIGKILL, 1, True)

    def test_killed_while_nothing_runs(self):
        self.lose(signal.SIGKILL, 2, False)

    def test_stopped_while_it_streams(self):
        self.lose(signal.SIGSTOP, 1, True)

    def test_stopped_while_nothing_runs(self):
        self.lose(signal.SIGSTOP, 2, False)

    def test_rank_0_killed(self):
        server = Server(self, LLAMA, 2)
        self.ends(server, lambda: os.kill(server.ranks()[0], signal.SIGKILL), "the ranks have ended")

    def test_the_launcher_killed(self):
        server = Server(self, LLAMA, 2)
        processes = below(server.pid)
        server.process.kill()
        until(lambda: all(map(gone, processes)), 10)
        self.assertTrue(all(map(gone, processes)))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
