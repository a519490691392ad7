"""Hosts for tests: network namespaces on one machine, each with an address, a host name, shared memory and mounts of its
own, joined by a bridge.

All of it, the test's own process too, is in namespaces without names, below one process number 1: when the test ends,
however it ends, the kernel takes away every process, link and mount."""
import os
import pathlib
import shutil
import subprocess
import sys

from serving import SKIPPED, rank_of

INSIDE = "OCTET_TEST_INSIDE"
NETWORK = "10.77.5"


def enter():
    """Starts the test again, alone in namespaces of its own; skips it where that is not allowed."""
    if INSIDE in os.environ:
        return
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing or subprocess.run([*words, "ip", "link", "add", "name", "switch", "type", "bridge"],
                                                      capture_output=True, check=False).returncode != 0:
        print("skipped: hosts as namespaces need root, iproute2, util-linux and the right to make bridges", file=sys.stderr)
        sys.exit(SKIPPED)
    os.execvpe("unshare", [*words, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def run(*words):
    subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)


class Host:
    def __init__(self, number):
        self.name, self.address = f"octet-host{number}", f"{NETWORK}.{number}"
        # Its first process, in its namespaces. /dev/shm is its own: hosts share no memory.
        self.keeper = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "sh", "-c",
             f"hostname {self.name} && mount -t tmpfs none /dev/shm && echo here && exec sleep infinity"],
            stdout=subprocess.PIPE, text=True)
        if self.keeper.stdout.readline() != "here\n":
            raise AssertionError(f"no host {self.name}")
        pid = self.keeper.pid
        self.before = ["nsenter", "--target", str(pid), "--net", "--uts", "--mount", "--"]
        self.link = f"to{number}"
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "link", "set", self.link, "master", "switch", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *words):
        run(*self.before, *words)

    def processes(self):
        """All processes here but the first."""
        def network(pid):
            try:
                return os.readlink(f"/proc/{pid}/ns/net")
            except OSError:
                return None
        own = network(self.keeper.pid)
        pids = [int(entry.name) for entry in pathlib.Path("/proc").glob("[0-9]*")]
        return sorted(pid for pid in pids if pid != self.keeper.pid and network(pid) == own)

    def ranks(self):
        return sorted((pid for pid in self.processes() if rank_of(pid) is not None), key=rank_of)

    def shared_files(self):
        return sorted(pathlib.Path(f"/proc/{self.keeper.pid}/root/dev/shm").iterdir())

    def hide(self, folder):
        """An empty folder is in its place here."""
        self.run("mount", "-t", "tmpfs", "none", folder)

    def show(self, folder):
        self.run("umount", folder)

    def slow_down(self):
        """1 Gbit/s and 1 ms where the kernel can; returns what it could."""
        for what, words in ("1 Gbit/s, 1 ms", ["netem", "delay", "1ms", "rate", "1gbit"]), \
                ("1 Gbit/s, no delay", ["tbf", "rate", "1gbit", "burst", "256kb", "latency", "50ms"]):
            if subprocess.run([*self.before, "tc", "qdisc", "add", "dev", "eth0", "root", *words],
                              capture_output=True, check=False).returncode == 0:
                return what
        return "as fast as it is"


def make(count, folder):
    """Hosts 1 to `count`, which know each other by name. This process reaches them by their addresses."""
    names = folder / "hosts"
    names.write_text("127.0.0.1 localhost\n" +
                     "".join(f"{NETWORK}.{n} octet-host{n}\n" for n in range(1, count + 1)))
    run("mount", "--bind", names, "/etc/hosts")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "name", "switch", "type", "bridge")
    run("ip", "addr", "add", f"{NETWORK}.254/24", "dev", "switch")
    run("ip", "link", "set", "switch", "up")
    hosts = [Host(n) for n in range(1, count + 1)]
    print(f"{count} hosts, the network {hosts and [h.slow_down() for h in hosts][0]}", file=sys.stderr)
    return hosts


def remote_shell(hosts, folder):
    """A program in place of ssh: `remote_shell HOST COMMAND...` runs the command there."""
    path = folder / "remote_shell"
    cases = "".join(f"{h.name}|{h.address}) exec {' '.join(h.before)} sh -c \"$*\" ;;\n" for h in hosts)
    path.write_text(f'#!/bin/sh\nhost=$1; shift\ncase "$host" in\n{cases}esac\necho "no host $host" >&2\nexit 1\n')
    path.chmod(0o755)
    return path


def mpirun(hosts, slots, shell):
    """The user's own, on the first host, with one thread a rank, as docs/distributed.md advises: it notices hosts that are cut
    off, and leaves nothing in /dev/shm when ranks are killed."""
    alive = [word for name, value in {"time": 2, "intvl": 1, "probes": 3}.items()
             for word in ("--mca", f"oob_tcp_keepalive_{name}", str(value))]
    where = ",".join(f"{host.address}:{n}" for host, n in zip(hosts, slots))
    return [*hosts[0].before, "mpirun", "--allow-run-as-root", "--quiet", "--oversubscribe", "--bind-to", "none",
            "--mca", "plm_rsh_agent", str(shell), "--mca", "oob_tcp_if_include", "eth0", "--mca",
            "btl_tcp_if_include", "eth0", "--mca", "btl", "tcp,self", *alive, "--host", where, "-n", str(sum(slots)), "-x", "OCTET_THREADS=1"]
