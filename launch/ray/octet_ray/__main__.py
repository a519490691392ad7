"""Runs a command as ranks on a Ray cluster: `python -m octet_ray --ranks N -- COMMAND ...`.

The cluster is RAY_ADDRESS, else one that runs on this host, else one that this starts for the time. Rank 0 is on
this host when it has room. OCTET_RAY_CPUS: CPUs that a rank reserves (default: the most that all can have).
Ends with the exit code of the job; 3 when Ray cannot place it or a host is lost, which it says on stderr.
"""
import argparse
import dataclasses
import ipaddress
import json
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from below, which takes a second
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # of 40 s each, for a cluster that does not answer
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from octet_ray import authentication, shares  # noqa: E402

authentication.settle()
import ray  # noqa: E402
from ray.util import placement_group, placement_group_table, remove_placement_group  # noqa: E402
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # noqa: E402

PLACING_SECONDS = 60
HERE_SECONDS = 20  # with a rank on this host; it may be full
ENDING_SECONDS = 2
LOOK_SECONDS = 0.3  # a thread that waits for Ray looks so often whether the job is over


class Failure(Exception):
    """Why the job cannot be; for the user."""


@ray.remote(num_cpus=0, max_restarts=0)
class Host:
    """One host of the placement group: runs what mpirun wants to run there. (Its node needs Ray, but not octet_ray: Ray
    sends what is defined in __main__.)"""

    def cores(self):
        """Cores that a process there may use."""
        def core(cpu):
            try:
                return pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
            except OSError:
                return cpu
        return len({core(cpu) for cpu in os.sched_getaffinity(0)})

    def run(self, command):
        """Exit code and output of the command."""
        job = subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True, check=False)
        return job.returncode, job.stdout

    def wait_for_ever(self):
        """Ends only with the actor."""
        threading.Event().wait()


@dataclasses.dataclass
class Place:
    """What the job has on a host."""
    actor: object
    ranks: int = 0
    cores: int = 0


def one_line(error):
    return " ".join(str(error).split())


def join():
    """The nodes of the cluster, and that of this host."""
    asked = os.environ.get("RAY_ADDRESS")
    if asked and asked.startswith("ray://"):
        raise Failure(f"RAY_ADDRESS={asked} is for Ray's client; octet serve has to run on a node of the cluster, with "
                      "RAY_ADDRESS=HOST:PORT")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        try:
            ray.init(address=asked or "auto", **quiet)
        except ConnectionError:
            if asked:
                raise Failure(f"no Ray cluster at RAY_ADDRESS={asked}") from None
            ray.init(address="local", include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as e:
        raise Failure(f"cannot join the Ray cluster {asked or 'of this host'}: {one_line(e)}; this host has to be a node of it, "
                      "with the same versions of Ray and Python as the others") from None
    nodes = [node for node in ray.nodes() if node["Alive"]]
    own = ray.get_runtime_context().get_node_id()
    return nodes, next(node for node in nodes if node["NodeID"] == own)


def cpus_of_a_rank(nodes, ranks):
    all_cpus = [node["Resources"].get("CPU", 0) for node in nodes]
    asked = os.environ.get("OCTET_RAY_CPUS")
    try:
        cpus = float(asked) if asked else shares.cpus_of_a_rank(all_cpus, ranks)
    except ValueError:
        cpus = 0
    if cpus > 0:
        return cpus
    if asked:
        raise Failure(f"OCTET_RAY_CPUS={asked} is not a number above 0")
    raise Failure(f"the Ray cluster's {sum(all_cpus):g} CPUs are too few for {ranks} ranks; more nodes, or fewer ranks")


def reserve(nodes, here, ranks):
    """The placement group, ready, and the CPUs of each bundle. One bundle is on this host, if it has room."""
    cpus = cpus_of_a_rank(nodes, ranks)
    anywhere = {"CPU": cpus}
    tries = [([anywhere] * ranks, PLACING_SECONDS)]
    if here["Resources"].get("CPU", 0) >= cpus:
        # A node has a resource of its own, named after its address.
        on_this_host = {**anywhere, f"node:{here['NodeManagerAddress']}": 0.001}
        tries.insert(0, ([on_this_host] + [anywhere] * (ranks - 1), HERE_SECONDS))
    for bundles, seconds in tries:
        group = placement_group(bundles, strategy="PACK", name=f"octet-{os.getpid()}")
        if group.wait(timeout_seconds=seconds):
            return group, cpus
        remove_placement_group(group)
    sizes = " + ".join(f"{node['Resources'].get('CPU', 0):g}" for node in nodes)
    free = ray.available_resources().get("CPU", 0)
    raise Failure(f"the Ray cluster cannot place {ranks} ranks of {cpus:g} CPUs within {PLACING_SECONDS} s: its nodes have {sizes} "
                  f"CPUs, of which {free:g} are free; free more, or set OCTET_RAY_CPUS to less")


def places_of(group, here):
    """Address -> Place, this host first."""
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    bundles = placement_group_table(group)["bundles_to_node_id"]
    places = {}
    for bundle in sorted(bundles, key=lambda bundle: bundles[bundle] != here["NodeID"]):
        address = addresses[bundles[bundle]]
        if address not in places:
            strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=bundle)
            places[address] = Place(Host.options(scheduling_strategy=strategy, max_concurrency=4).remote())
        places[address].ranks += 1
    asked = {address: place.actor.cores.remote() for address, place in places.items()}
    for address, cores in asked.items():
        try:
            places[address].cores = ray.get(cores, timeout=PLACING_SECONDS)
        except ray.exceptions.RayError as e:
            raise Failure(f"no actor of octet runs on the Ray node {address}: {one_line(e)}; the files in "
                          "/tmp/ray/session_latest/logs there say more") from None
    return places


def network_of(address):
    """The network of this host that holds the address, "10.0.0.0/24"; None if none does."""
    if shutil.which("ip") is None:
        return None
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

    def __init__(self, places, folder, over):
        self.places, self.over, self.threads = places, over, []
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
            task = self.places[wanted["host"]].actor.run.remote(wanted["command"])
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


def mpirun(places, here, environment, command):
    """The command line."""
    words = ["mpirun", "--quiet", "--oversubscribe", "--bind-to", "none", "--stdin", "none"]
    if os.geteuid() == 0:
        words.append("--allow-run-as-root")
    for name in sorted(environment):
        if name.startswith(("OCTET_", "VLLM_")):
            words += ["-x", name]  # without the value, which others could read
    # Ray has placed the ranks: the nodes of a batch system that this runs in, too, do not count.
    words += ["--mca", "ras", "^alps,gridengine,lsf,slurm,tm"]
    if list(places) == [here]:
        hosts = {"localhost": places[here]}
    else:
        hosts = places
        # A host that is cut off is noticed within seconds, on both sides.
        for name, value in {"time": 2, "intvl": 1, "probes": 3}.items():
            words += ["--mca", f"oob_tcp_keepalive_{name}", str(value)]
        # Ranks of one host share memory of their own; Open MPI's for it would outlive ranks that are killed.
        words += ["--mca", "btl", "tcp,self"]
        words += ["--leave-session-attached", "--mca", "plm", "rsh", "--mca", "plm_rsh_agent",
                  f"{sys.executable} -m octet_ray.agent", "--mca", "plm_rsh_no_tree_spawn", "1"]
        network = network_of(here)
        if network:
            words += ["--mca", "oob_tcp_if_include", network, "--mca", "btl_tcp_if_include", network]
    words += ["--host", ",".join(f"{address}:{place.ranks}" for address, place in hosts.items())]
    words += ["-n", str(sum(place.ranks for place in places.values()))]
    return words + command


def end_soon(job):
    """mpirun, which ends by itself, unless it waits for a host that does not answer. (Two signals make it crash.)"""
    try:
        job.wait(timeout=ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        job.kill()


def watch(places, here, job, lost, over):
    """A thread that ends the job when a host's actor ends."""
    waiting = {place.actor.wait_for_ever.remote(): address for address, place in places.items()}

    def run():
        ended = first_of(list(waiting), over)
        if ended is not None and job.poll() is None:
            lost.append(waiting[ended])
            if waiting[ended] == here:
                job.terminate()
            if list(places) != [here]:
                end_soon(job)  # of other hosts it knows: their daemons have ended
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def start(words, environment):
    """mpirun, which gets the signals that this process gets from now on, once each."""
    job, early = None, []

    def pass_on(got, frame):
        if job is None:
            early.append(got)
        else:
            job.send_signal(got)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, pass_on)
    job = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL)
    for got in early:
        job.send_signal(got)
    return job


def end_when_said(job, said):
    """Ends mpirun when rank 0 has said why the job ends and it still waits, for a host that does not answer."""
    def run():
        while job.poll() is None and not said.exists():
            time.sleep(0.1)
        end_soon(job)
    threading.Thread(target=run, daemon=True).start()


def run(ranks, command):
    """Exit code of the job."""
    if shutil.which("mpirun") is None:
        raise Failure("ranks on Ray need mpirun, which is not there; install Open MPI on every host (scripts/setup does)")
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # where Ray puts remarks of its own; the job has the descriptor
    group = job = None
    try:
        nodes, own = join()
        here = own["NodeManagerAddress"]
        group, cpus = reserve(nodes, own, ranks)
        places = places_of(group, own)
        if here not in places:
            print(f"octet: note: rank 0, which answers HTTP, is on {next(iter(places))}: {here} has no room for a rank, so "
                  "--restart-ranks is without effect", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="octet-ray-") as folder:
            over = threading.Event()
            agents = Agents(places, folder, over)
            environment = {**os.environ, "OCTET_RAY_AGENT": agents.path, "TMPDIR": folder}
            if not environment.get("OCTET_THREADS"):
                hosts = [(place.cores, place.ranks) for place in places.values()]
                environment["OCTET_THREADS"] = str(shares.threads_of_a_rank(cpus, hosts))
            job = start(mpirun(places, here, environment, command), environment)
            if "OCTET_JOB" in environment and list(places) != [here]:
                end_when_said(job, pathlib.Path(environment["OCTET_JOB"], "said"))
            lost = []
            watcher = watch(places, here, job, lost, over)
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
        if job is not None and job.poll() is None:
            job.terminate()
            job.wait()
        if group is not None:
            remove_placement_group(group)
        ray.shutdown()


def main():
    parser = argparse.ArgumentParser(prog="octet_ray", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    try:
        sys.exit(run(args.ranks, command))
    except Failure as e:
        print(f"octet: error: {e}", file=sys.stderr)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
