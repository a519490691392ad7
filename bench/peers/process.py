"""Runs a child: its lines as they come, a time limit, its peak memory; nothing that it started is left behind."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

from peers import install

# What would change a library's threads or kernels, from whoever calls.
UNSET = re.compile(r"(OMP|GOMP|KMP|MKL|OPENBLAS|ONEDNN|DNNL|CT2|OV|ORT|VLLM|TORCH|OCTET|LLAMA_ARG|GGML|LD_PRELOAD|PYTHON).*")
KEPT = {"OCTET_CACHE", "OCTET_ISA"}


class ChildError(Exception):
    pass


def environment(threads: int, **more: str) -> dict[str, str]:
    result = {name: value for name, value in os.environ.items() if name in KEPT or not UNSET.fullmatch(name)}
    number = str(threads)
    result |= {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number, "OCTET_THREADS": number, "HF_HUB_OFFLINE": "1",
               "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1",
               "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CACHE_ROOT": str(install.cache() / "vllm/cache"),
               "DO_NOT_TRACK": "1", "ORT_DISABLE_TELEMETRY": "1"}
    return result | more


def clean(text: str) -> str:
    """One line without addresses and without folders of this machine."""
    text = re.sub(r"\w+://\S+", "URL", " ".join(text.split()))
    text = re.sub(r"(?<![\w.])/(?:[\w.+@=-]+/)+", "", text)
    return text.replace("|", "/")[:200]


def reason(errors: str, code: int) -> str:
    """The line that tells most of why a child failed."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|.*\b(error|Error|ERROR)\b", line)]
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" + (f": {clean(lines[-1])}" if lines else "")
    return clean((telling or lines or [f"exit code {code}"])[-1])


class Child:
    """A running child in a process group of its own."""

    def __init__(self, command, env: dict[str, str], limit: float):
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        self.peak = 0  # bytes: the largest of the child and those it waited for
        self.code = None
        self.late = False
        self.started = time.monotonic()
        self.process = subprocess.Popen([str(c) for c in command], env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, errors="replace",
                                        start_new_session=True)
        self.timer = threading.Timer(limit, self.expire)
        self.timer.start()

    def expire(self) -> None:
        self.late = True
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def alive(self) -> bool:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.code is None and os.waitid(os.P_PID, self.process.pid, options) is None

    def lines(self):
        for line in self.process.stdout:
            yield line.rstrip("\n")

    def wait(self) -> None:
        if self.code is None:
            _, status, usage = os.wait4(self.process.pid, 0)
            self.timer.cancel()
            # Whoever of the group is still there goes, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.peak = usage.ru_maxrss * 1024

    def stop(self, patience: float = 20) -> None:
        """Asks the child to end, and ends it if it does not."""
        self.signal(signal.SIGTERM)
        killer = threading.Timer(patience, self.signal, [signal.SIGKILL])
        killer.start()
        self.wait()
        killer.cancel()

    def complaint(self) -> str:
        self.errors.seek(0)
        return reason(self.errors.read(), self.code)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.signal(signal.SIGKILL)
        self.wait()
        self.process.stdout.close()
        self.errors.close()


def run(command, env: dict[str, str], limit: float, each=lambda line, seconds: None) -> Child:
    """Runs a command to its end. each: called with every line of its output and the seconds since its start."""
    with Child(command, env, limit) as child:
        for line in child.lines():
            each(line, time.monotonic() - child.started)
        child.wait()
        if child.late:
            raise ChildError(f"not done after {limit:.0f} s")
        if child.code:
            raise ChildError(child.complaint())
        return child
