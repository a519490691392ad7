"""`octet serve` on several ranks of this host: the tokens of one rank, and what happens when ranks fail.

    ranks_test.py OCTET [--thorough]

--thorough: more prompts, longer answers, more numbers of ranks.
"""
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
THOROUGH = "--thorough" in sys.argv
sys.argv = [word for word in sys.argv if word != "--thorough"]
from testing import LLAMA, OCTET, QWEN, ROOT, Verbs, octet  # noqa: E402

PROMPTS = [json.loads(line)["inputs_pretokenized"][:200] for line in (ROOT / "models/text.jsonl").read_text().splitlines()]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ranks_of(server):
    """Processes below the server's, whose command is ours."""
    found, parents = [], {server.pid}
    for _ in range(3):
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (entry / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:
                continue
            if parent in parents and int(entry.name) not in parents:
                parents.add(int(entry.name))
                if command.endswith(b"octet"):
                    found.append(int(entry.name))
    return sorted(found)


def gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Server:
    def __init__(self, test, model, ranks, *more, wait=True):
        self.port = free_port()
        self.log = test.dir / f"log-{self.port}"
        words = [OCTET, "serve", f"--model={model}", "--served-model-name", "m", "--tp", str(ranks), "--port", str(self.port), *more]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        test.addCleanup(self.end)
        self.pid = self.process.pid
        deadline = time.monotonic() + 60
        while wait and "is ready at" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text())
            time.sleep(0.05)

    def end(self):
        """Ends it as a user does; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=60)

    def errors(self):
        return [line for line in self.log.read_text().splitlines() if "error" in line]

    def post(self, body, timeout=120):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", json.dumps({"model": "m", **body}).encode(),
                                         {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=timeout)

    def health(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).status
        except urllib.error.HTTPError as e:
            return e.code
        except OSError:
            return None

    def greedy(self, prompts, tokens):
        """Token ids of the answers; several requests at a time, so that they share steps."""
        def ask(prompt):
            with self.post({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                            "return_token_ids": True}) as answer:
                return json.load(answer)["choices"][0]["token_ids"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(ask, prompts))


class SameTokens(Verbs):
    def compare(self, model, numbers):
        prompts, tokens = (PROMPTS[:50], 64) if THOROUGH else (PROMPTS[:8], 24)
        server = Server(self, model, 1)
        want = server.greedy(prompts, tokens)
        self.assertEqual(server.end(), 0)
        for ranks in numbers:
            with self.subTest(model=model.name, ranks=ranks):
                server = Server(self, model, ranks)
                self.assertEqual(len(ranks_of(server)), ranks)
                self.assertEqual(server.greedy(prompts, tokens), want)
                self.assertEqual(server.end(), 0, server.log.read_text())

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


class Faults(Verbs):
    """Each ends in less than 10 s with one clear message, an error for who waits, and nothing left."""

    def lose(self, how, rank, streaming):
        server = Server(self, LLAMA, 3)
        ranks = ranks_of(server)
        answer = server.post({"prompt": "What is", "max_tokens": 2000, "ignore_eos": True, "stream": True}) if streaming else None
        if answer:
            answer.readline()
        begin = time.monotonic()
        os.kill(ranks[rank], how)
        if answer:
            last = [line for line in answer.read().decode().splitlines() if line.startswith("data: {")][-1]
            self.assertIn(f"rank {rank} of 3", json.loads(last[6:])["error"]["message"])
        seen = set()
        while server.process.poll() is None and time.monotonic() < begin + 20:
            seen.add(server.health())
            time.sleep(0.1)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertIn(503, seen)
        self.assertEqual(server.process.poll(), 1)
        self.assertEqual(len(server.errors()), 1, server.log.read_text())
        self.assertIn(f"rank {rank} of 3 (process {ranks[rank]})", server.errors()[0])
        time.sleep(0.2)
        self.assertTrue(all(gone(pid) for pid in ranks))

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
        ranks = ranks_of(server)
        os.kill(ranks[0], signal.SIGKILL)
        self.assertEqual(server.process.wait(timeout=10), 1)
        self.assertEqual(len(server.errors()), 1, server.log.read_text())
        time.sleep(0.2)
        self.assertTrue(all(gone(pid) for pid in ranks))

    def test_the_launcher_killed(self):
        server = Server(self, LLAMA, 2)
        ranks = ranks_of(server)
        server.process.kill()
        deadline = time.monotonic() + 10
        while not all(gone(pid) for pid in ranks) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertTrue(all(gone(pid) for pid in ranks))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
