"""A Ray cluster for tests: nodes that are started and ended one by one, by their process groups (`ray stop` would end
those of others, too)."""
import atexit
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from serving import OCTET, ROOT, SKIPPED, below, gone, until, words_of


@functools.cache
def python():
    """A Python with ray; None if there is none."""
    beside = pathlib.Path(OCTET).parent / "ray/bin/python"
    for candidate in filter(None, [os.environ.get("OCTET_RAY_PYTHON"), str(beside), "python3"]):
        try:
            if subprocess.run([candidate, "-c", "import ray"], capture_output=True, check=False).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


def skip_without_ray():
    if python() is None:
        print("skipped: no Ray (scripts/setup --with ray, or OCTET_RAY_PYTHON)", file=sys.stderr)
        sys.exit(SKIPPED)


def ray_folder(test):
    """For what Ray keeps, for the time of a test or a class of tests; its name is short, because sockets lie in it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="octet_ray_"))
    add = test.addClassCleanup if isinstance(test, type) else test.addCleanup
    add(shutil.rmtree, folder, ignore_errors=True)
    return folder


def environment(folder, cluster):
    """For `octet serve` on this cluster, with octet_ray as it stands here."""
    return {"RAY_ADDRESS": cluster, "RAY_TMPDIR": str(folder), "OCTET_RAY_PYTHON": python(),
            "PYTHONPATH": str(ROOT / "launch/ray")}


class Node:
    """One node. `head`: the address of the cluster to join; None starts one. `before`: words that enter a host."""

    def __init__(self, folder, address, port, cpus, head=None, before=()):
        folder.mkdir(exist_ok=True)
        self.address, self.before, self.log = address, before, folder / f"ray-{address}-{port}.log"
        join = ["--head", f"--port={port}", "--include-dashboard=false"] if head is None else [f"--address={head}"]
        self.cluster = head or f"{address}:{port}"
        self.environment = {**os.environ, "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*before, python(), "-m", "ray.scripts.scripts", "start", "--block", *join,
                                             f"--node-ip-address={address}", f"--num-cpus={cpus}"],
                                            env=self.environment, stdout=log, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self.end)

    def wait(self):
        if until(lambda: "Ray runtime started" in self.log.read_text() or self.process.poll() is not None, 60) is None or \
                self.process.poll() is not None:
            raise AssertionError(self.log.read_text())

    def actors(self):
        """Processes of octet_ray's actors here."""
        return [pid for pid in below(self.process.pid) if "".join(words_of(pid)).startswith("ray::Host")]

    def status(self):
        """What `ray status` says."""
        environment = {"RAY_AUTH_MODE": "token", **self.environment} if self.asks_for_token() else self.environment
        return subprocess.run([*self.before, python(), "-m", "ray.scripts.scripts", "status", f"--address={self.cluster}"],
                              env=environment, capture_output=True, text=True, timeout=60, check=False).stdout

    def asks_for_token(self):
        return "Token authentication is enabled" in self.log.read_text()

    def end(self):
        """At once, as when the host fails."""
        processes = [self.process.pid, *below(self.process.pid)]
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pid in processes:  # workers have process groups of their own
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
