"""What the tests of many ranks share: a server of several processes, and what it leaves behind."""
import atexit
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from testing import LLAMA, OCTET, QWEN, QWEN3, ROOT, Verbs, octet  # noqa: E402, F401

PROMPTS = [json.loads(line)["inputs_pretokenized"][:200] for line in (ROOT / "models/text.jsonl").read_text().splitlines()]
SKIPPED = 77  # ctest's SKIP_RETURN_CODE


def interrupt(signal_number, frame):
    raise KeyboardInterrupt  # passes through unittest; what atexit holds is done


signal.signal(signal.SIGTERM, interrupt)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, seconds, step=0.05):
    """Seconds that it took to come true; None when it did not in time."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        if condition():
            return time.monotonic() - begin
        time.sleep(step)
    return None


def words_of(pid):
    """The command line of a process; [] when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def rank_of(pid):
    """The number of a rank; None for other processes, launchers among them."""
    try:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = [word[21:] for word in environment if word.startswith(b"OMPI_COMM_WORLD_RANK=")]
    return int(found[0]) if found else None


def below(pid):
    """All processes below this one."""
    parents = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found, last = set(), {pid}
    while last:
        last = {child for child, parent in parents.items() if parent in last}
        found |= last
    return sorted(found)


def gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def shared_files(pids):
    """Files in memory that these processes share."""
    found = set()
    for pid in pids:
        try:
            maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue
        for line in maps.splitlines():
            path = line.split(None, 5)[5] if line.count("/") else ""
            if path.startswith("/dev/shm/") and not path.endswith("(deleted)"):
                found.add(path)
    return sorted(found)


def mpirun(ranks):
    """The user's own."""
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return ["mpirun", *root, "--oversubscribe", "-n", str(ranks)]


class Server:
    """`octet serve` with several ranks, by MindIE's command line. `before`: words in front of the command (a launcher, a
    host to enter); `environment`: more of it; `address`: where it can be asked."""

    def __init__(self, test, model, ranks, *more, backend=None, wait=True, before=(), environment=None, address="127.0.0.1"):
        self.address, self.port = address, free_port()
        self.log = test.dir / f"log-{self.port}"
        self.folder = test.dir / f"tmp-{self.port}"  # what it and its launchers make goes here
        self.folder.mkdir()
        self.words = [OCTET, "serve", f"--model={model}", "--served-model-name", "m", "--enforce-eager",
                      *(["--distributed_executor_backend", backend] if backend else []), "--tp", str(ranks), "--port",
                      str(self.port), *more]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*before, *self.words], stdout=log, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL,
                                            env={**os.environ, "TMPDIR": str(self.folder), **(environment or {})})
        test.addCleanup(self.end)
        atexit.register(self.end)  # when the test is interrupted
        self.pid = self.process.pid
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, times=1, seconds=180):
        """Until it has said so this many times."""
        if until(lambda: self.text().count("is ready at") >= times or self.process.poll() is not None, seconds) is None or \
                self.process.poll() is not None:
            raise AssertionError(self.text())

    def text(self):
        return self.log.read_text()

    def ranks(self):
        """Its ranks that the launcher on this host has started."""
        return sorted((pid for pid in below(self.pid) if rank_of(pid) is not None), key=rank_of)

    def end(self):
        """Ends it as a user does; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def errors(self):
        return [line for line in self.text().splitlines() if "error" in line]

    def post(self, body, timeout=120):
        request = urllib.request.Request(f"http://{self.address}:{self.port}/v1/completions",
                                         json.dumps({"model": "m", **body}).encode(), {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=timeout)

    def stream(self):
        """A long answer that has begun."""
        answer = self.post({"prompt": "What is", "max_tokens": 2000, "ignore_eos": True, "stream": True})
        answer.readline()
        return answer

    def health(self):
        """The status; None when nobody listens."""
        try:
            return urllib.request.urlopen(f"http://{self.address}:{self.port}/health", timeout=5).status
        except urllib.error.HTTPError as e:
            return e.code
        except OSError:
            return None

    def greedy(self, prompts, tokens, at_once=4):
        """Token ids of the answers; several requests at a time, so that they share steps."""
        def ask(prompt):
            with self.post({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                            "return_token_ids": True}) as answer:
                return json.load(answer)["choices"][0]["token_ids"]
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(ask, prompts))


def error_of(stream):
    """The message of the error object that ends a streamed answer."""
    last = [line for line in stream.read().decode().splitlines() if line.startswith("data: {")][-1]
    return json.loads(last[6:])["error"]["message"]


class Ranked(Verbs):
    def ends(self, server, fault, *words, processes=None, stream=None, told=None, limit=10):
        """The fault ends the server within `limit` seconds: one message that holds all words, exit code 1, an error object for
        who waits (with all words, too, or with `told`), and nothing left of its processes (`processes`: those that are not
        below the server's)."""
        processes = below(server.pid) + (processes or [])
        files = shared_files(processes)
        begin = time.monotonic()
        fault()
        if stream:
            answer = error_of(stream)
        until(lambda: server.process.poll() is not None, 2 * limit)
        took = time.monotonic() - begin
        print(f"{self.id().split('.', 1)[1]}: {took:.1f} s", file=sys.stderr)
        self.assertEqual(server.process.poll(), 1, server.text())
        self.assertLess(took, limit, server.text())
        self.assertEqual(len(server.errors()), 1, server.text())
        for word in words:
            self.assertIn(word, server.errors()[0], server.text())
        if stream:
            for word in [told] if told else words:
                self.assertIn(word, answer)
        self.nothing_left_of(server, processes, files)

    def nothing_left_of(self, server, processes, files):
        """The processes end, and the files in shared memory and the server's temporary ones are removed."""
        until(lambda: all(map(gone, processes)), 5)
        self.assertEqual([(pid, words_of(pid)) for pid in processes if not gone(pid)], [])
        self.assertEqual([path for path in files if pathlib.Path(path).exists()], [])
        self.assertEqual(list(server.folder.glob("octet-*")), [])
