"""Runs a command as ranks on a Ray cluster: `python -m octet_ray --ranks N -- COMMAND ...`.

The cluster is RAY_ADDRESS, else one that runs on this host, else one that this starts for the time. Rank 0 is on
this host when the cluster has it. OCTET_RAY_CPUS: CPUs that a rank reserves (default: an equal share of all).
Ends with the exit code of the job; 3 when Ray cannot place it or a host is lost, which it says on stderr.
"""
import argparse
import collections
import ipaddress
import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from octet_ray import authentication  # noqa: E402

authentication.settle()
import ray  # noqa: E402
from ray.util import placement_group, remove_placement_group  # noqa: E402
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # noqa: E402

PLACING_SECONDS = 60
ENDING_SECONDS = 2
LOOK_SECONDS = 0.3  # a thread that waits for Ray looks so often whether the job is over


class Failure(Exception):
    """Why the job cannot be; for the user."""


@ray.remote(num_cpus=0, max_restarts=0)
class Host:
    """One host of the placement group: runs what mpirun wants to run there."""

    def address(self):
        return ray.util.get_node_ip_address()

    def run(self, command):
        """Exit code and output of the command."""
        job = subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, errors="replace", start_new_session=True, check=False)
        return job.returncode, job.stdout

    def wait_for_ever(self):
        """Ends only with the actor."""
        threading.Event().wait()


def cpus_of_a_rank(ranks):
    if "OCTET_RAY_CPUS" in os.environ:
        return float(os.environ["OCTET_RAY_CPUS"])
    all_cpus = ray.cluster_resources().get("CPU", 0)
    if all_cpus <= 0:
        raise Failure("the Ray cluster has no CPUs")
    share = all_cpus / ranks
    return float(int(share)) if share >= 1 else int(share * 100) / 100


def reserve(ranks):
    """The placement group, ready."""
    cpus = cpus_of_a_rank(ranks)
    group = placement_group([{"CPU": cpus}] * ranks, strategy="PACK", name=f"octet-{os.getpid()}")
    if not group.wait(timeout_seconds=PLACING_SECONDS):
        free = ray.available_resources().get("CPU", 0)
        remove_placement_group(group)
        raise Failure(f"the Ray cluster cannot place {ranks} ranks of {cpus:g} CPUs within {PLACING_SECONDS} s: {free:g} CPUs "
                      "are free; fewer ranks, or OCTET_RAY_CPUS for less of a reservation")
    return group, cpus


def hosts_of(group, ranks):
    """Address -> (actor, ranks there), this host first."""
    actors = []
    for bundle in range(ranks):
        strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=bundle)
        actors.append(Host.options(scheduling_strategy=strategy, max_concurrency=4).remote())
    addresses = ray.get([actor.address.remote() for actor in actors])
    hosts = collections.OrderedDict()
    here = ray.util.get_node_ip_address()
    for address, actor in sorted(zip(addresses, actors), key=lambda pair: pair[0] != here):
        if address in hosts:
            hosts[address][1] += 1
            ray.kill(actor)  # one a host is enough
        else:
            hosts[address] = [actor, 1]
    return hosts


def network_of(address):
    """The network of this host that holds the address, "10.0.0.0/24"; None if none does."""
    lines = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=False).stdout.splitlines()
    for line in lines:
        found = ipaddress.ip_interface(line.split()[3])
        if str(found.ip) == address:
            return str(found.network)
    return None


def first_of(tasks, over):
    """The first of the tasks that has ended; None when the job is over before. (Ray ends the program when it is shut
    down while a thread waits for it.)"""
    while not over.is_set():
        ended, _ = ray.wait(tasks, num_returns=1, timeout=LOOK_SECONDS)
        if ended:
            return ended[0]
    return None


class Agents:
    """Answers octet_ray.agent: runs commands through the actors of their hosts."""

    def __init__(self, hosts, folder, over):
        self.hosts, self.over, self.threads = hosts, over, []
        self.complaints = {}  # address -> what the daemon there said before it failed
        self.path = str(pathlib.Path(folder) / "agents")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.socket.accept()
            self.threads.append(threading.Thread(target=self.answer, args=(connection,), daemon=True))
            self.threads[-1].start()

    def answer(self, connection):
        with connection:
            wanted = json.loads(connection.makefile().readline())
            task = self.hosts[wanted["host"]][0].run.remote(wanted["command"])
            if first_of([task], self.over) is None:
                return
            try:
                code, output = ray.get(task)
                if code != 0 and output.strip():
                    self.complaints[wanted["host"]] = output.strip()
            except ray.exceptions.RayError:  # the actor is gone: its watcher says so
                code = 1
            try:
                connection.sendall(f"{code}\n".encode())
            except OSError:
                pass


def mpirun(hosts, agents, cpus, command):
    """The command line."""
    here = ray.util.get_node_ip_address()
    words = ["mpirun", "--quiet", "--oversubscribe", "--bind-to", "none", "--stdin", "none"]
    if os.geteuid() == 0:
        words.append("--allow-run-as-root")
    threads = os.environ.get("OCTET_THREADS") or str(max(1, int(cpus)))
    for name, value in {"OCTET_THREADS": threads, "OCTET_JOB": os.environ.get("OCTET_JOB", "")}.items():
        words += ["-x", f"{name}={value}"]
    if list(hosts) != [here]:
        # A host that is cut off is noticed within seconds, on both sides.
        for name, value in {"time": 2, "intvl": 1, "probes": 3}.items():
            words += ["--mca", f"oob_tcp_keepalive_{name}", str(value)]
        # Ranks of one host share memory of their own; Open MPI's for it would outlive ranks that are killed.
        words += ["--mca", "btl", "tcp,self"]
        words += ["--leave-session-attached", "--mca", "plm_rsh_agent", f"{sys.executable} -m octet_ray.agent",
                  "--mca", "plm_rsh_no_tree_spawn", "1"]
        network = network_of(here)
        if network:
            words += ["--mca", "oob_tcp_if_include", network, "--mca", "btl_tcp_if_include", network]
        words += ["--host", ",".join(f"{address}:{count}" for address, (_, count) in hosts.items())]
    words += ["-n", str(sum(count for _, count in hosts.values()))]
    return words + command


def end_soon(job):
    """mpirun, which ends by itself, unless it waits for a host that does not answer. (Two signals make it crash.)"""
    try:
        job.wait(timeout=ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        job.kill()


def watch(hosts, job, lost, over):
    """A thread that ends the job when a host's actor ends."""
    here = ray.util.get_node_ip_address()
    waiting = {actor.wait_for_ever.remote(): address for address, (actor, _) in hosts.items()}

    def run():
        ended = first_of(list(waiting), over)
        if ended is not None and job.poll() is None:
            lost.append(waiting[ended])
            if waiting[ended] == here:
                job.terminate()
            end_soon(job)  # of other hosts it knows: their daemons have ended
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def end_when_said(job):
    """Ends mpirun when rank 0 has said why the job ends and it still waits, for a host that does not answer."""
    said = pathlib.Path(os.environ.get("OCTET_JOB", ""), "said")

    def run():
        while job.poll() is None and not said.exists():
            time.sleep(0.1)
        end_soon(job)
    threading.Thread(target=run, daemon=True).start()


def run(ranks, command):
    """Exit code of the job."""
    address = os.environ.get("RAY_ADDRESS", "auto")
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # where Ray puts remarks of its own; the job has the descriptor
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        if "RAY_ADDRESS" in os.environ:
            raise Failure(f"no Ray cluster at RAY_ADDRESS={address}") from None
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    group = None
    try:
        group, cpus = reserve(ranks)
        hosts = hosts_of(group, ranks)
        with tempfile.TemporaryDirectory(prefix="octet-ray-") as folder:
            over = threading.Event()
            agents = Agents(hosts, folder, over)
            environment = {**os.environ, "OCTET_RAY_AGENT": agents.path, "TMPDIR": folder}
            job = subprocess.Popen(mpirun(hosts, agents, cpus, command), env=environment, stdin=subprocess.DEVNULL)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda got, frame: job.send_signal(got))
            end_when_said(job)
            lost = []
            watcher = watch(hosts, job, lost, over)
            code = job.wait()
            over.set()
            for thread in [watcher, *agents.threads]:
                thread.join()
            if lost:
                raise Failure(f"the Ray node {lost[0]} is lost")
            if code != 0:
                for address, output in agents.complaints.items():
                    print(f"octet: Open MPI on {address}: {output}", file=sys.stderr)
            return code if code >= 0 else 128 - code
    finally:
        if group is not None:
            remove_placement_group(group)
        ray.shutdown()


def main():
    parser = argparse.ArgumentParser(prog="octet_ray", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    try:
        sys.exit(run(args.ranks, command))
    except Failure as e:
        print(f"octet: error: {e}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
