"""`octet serve` on a real Ray cluster of this host: MindIE's command line, the tokens of one rank, what Ray sees, what
happens when an actor dies, and what is said when there is no job.

    ray_test.py OCTET      exit code 77: there is no Ray
"""
import json
import os
import signal
import subprocess
import sys
import unittest

from ray_cluster import Node, environment, python, ray_folder, skip_without_ray
from serving import LLAMA, PROMPTS, QWEN, ROOT, Ranked, Server, below, free_port, shared_files, until

sys.path.insert(0, str(ROOT / "launch/ray"))
from octet_ray import shares  # noqa: E402


class Shares(unittest.TestCase):
    def test_cpus_of_a_rank(self):
        for nodes, ranks, cpus in [([16] * 4, 2, 16), ([16] * 4, 4, 16), ([16] * 4, 6, 8), ([16] * 4, 9, 5), ([2, 1, 1], 4, 1),
                                   ([64, 64, 4, 0], 3, 32), ([2, 1, 1], 5, 0.66), ([2], 7, 0.28), ([2], 200, 0.01),
                                   ([2], 201, 0), ([0], 1, 0)]:
            self.assertEqual(shares.cpus_of_a_rank(nodes, ranks), cpus, (nodes, ranks))

    def test_threads_of_a_rank(self):
        for cpus, hosts, threads in [(8, [(16, 2)], 8), (8, [(8, 2)], 4), (8, [(8, 1), (8, 2)], 4), (0.5, [(8, 2)], 1),
                                     (1, [(2, 8)], 1)]:
            self.assertEqual(shares.threads_of_a_rank(cpus, hosts), threads, (cpus, hosts))


class OnRay(Ranked):
    """With a cluster of 8 CPUs that runs already."""

    @classmethod
    def setUpClass(cls):
        cls.folder = ray_folder(cls)
        cls.node = Node(cls.folder, "127.0.0.1", free_port(), 8)
        cls.addClassCleanup(cls.node.end)
        cls.node.wait()

    def server(self, model, ranks, *more):
        return Server(self, model, ranks, *more, backend="ray", environment=environment(self.folder, self.node.cluster))

    def reserved(self, cpus):
        """Whether `ray status` says so; it is some seconds behind."""
        words = f"of {cpus:.1f} reserved in placement groups" if cpus else " 0.0/8.0 CPU\n"
        return until(lambda: words in self.node.status(), 15) is not None

    def test_the_tokens_of_one_rank_and_what_ray_sees(self):
        for model, numbers in (LLAMA, [2, 3]), (QWEN, [8]):
            alone = Server(self, model, 1)
            want = alone.greedy(PROMPTS[:4], 16)
            self.assertEqual(alone.end(), 0)
            for ranks in numbers:
                with self.subTest(model=model.name, ranks=ranks):
                    server = self.server(model, ranks)
                    self.assertEqual(len(server.ranks()), ranks)
                    self.assertTrue(self.reserved(8 // ranks * ranks), self.node.status())
                    self.assertEqual(server.greedy(PROMPTS[:4], 16), want)
                    processes = below(server.pid)
                    files = shared_files(processes)
                    self.assertEqual(server.end(), 0, server.text())
                    self.assertTrue(self.reserved(0), self.node.status())
                    self.nothing_left_of(server, processes, files)

    def test_an_actor_dies(self):
        server = self.server(LLAMA, 2)
        actors = self.node.actors()
        self.assertEqual(len(actors), 1)
        self.ends(server, lambda: os.kill(actors[0], signal.SIGKILL), "the Ray node", "is lost", processes=actors)
        self.assertTrue(self.reserved(0), self.node.status())

    def test_an_actor_dies_and_the_ranks_come_back(self):
        server = self.server(LLAMA, 2, "--restart-ranks")
        want = server.greedy(PROMPTS[:2], 8)
        os.kill(self.node.actors()[0], signal.SIGKILL)
        server.wait_until_ready(times=2)
        self.assertEqual(server.greedy(PROMPTS[:2], 8), want)
        self.assertEqual(server.end(), 0, server.text())
        self.assertTrue(self.reserved(0), self.node.status())


    def refused(self, *words, **more):
        """octet_ray says why there is no job, in one line that holds all words."""
        run = subprocess.run([python(), "-m", "octet_ray", "--ranks", "2", "--", "true"], capture_output=True, text=True, timeout=100,
                             env={**os.environ, **environment(self.folder, self.node.cluster), **more}, check=False)
        self.assertEqual(run.returncode, 3, run.stderr)
        for word in words:
            self.assertIn(word, run.stderr.splitlines()[-1])
        self.assertNotIn("Traceback", run.stderr)

    def test_what_is_said_when_there_is_no_job(self):
        self.refused("OCTET_RAY_CPUS=all", "a number above 0", OCTET_RAY_CPUS="all")
        self.refused("the Ray cluster cannot place 2 ranks of 5 CPUs", "8 CPUs, of which 8 are free", OCTET_RAY_CPUS="5")
        self.refused("mpirun", "install Open MPI", PATH=str(self.dir))
        self.refused("RAY_ADDRESS=ray://127.0.0.1:10001", "HOST:PORT", RAY_ADDRESS="ray://127.0.0.1:10001")
        (self.dir / "sitecustomize.py").write_text("import ray\nray.__version__ = '1.0'\n")
        self.refused("Version mismatch", "the same versions of Ray and Python", PYTHONPATH=f"{self.dir}:{ROOT / 'launch/ray'}",
                     RAY_AUTH_MODE="token" if self.node.asks_for_token() else "disabled")

    def test_another_launchers_hosts(self):
        server = Server(self, LLAMA, 2, backend="ray", environment={
            **environment(self.folder, self.node.cluster), "SLURM_JOBID": "1", "SLURM_NODELIST": "away", "SLURM_NNODES": "1",
            "SLURM_TASKS_PER_NODE": "1"})
        self.assertEqual(len(server.ranks()), 2)
        self.assertEqual(server.end(), 0, server.text())


class MindIE(Ranked):
    """Its command line where no cluster runs: then one is started for the time of the server."""

    def test_the_line_and_the_question(self):
        folder = ray_folder(self)
        # local: also where others run a cluster on this machine
        server = Server(self, QWEN, 8, backend="ray", environment=environment(folder, "local"))
        self.assertEqual(server.words[1:], ["serve", f"--model={QWEN}", "--served-model-name", "m", "--enforce-eager",
                                            "--distributed_executor_backend", "ray", "--tp", "8", "--port", str(server.port)])
        answer = subprocess.run(["curl", "-s", f"http://localhost:{server.port}/v1/completions", "-H",
                                 "Content-Type: application/json", "-d",
                                 '{"model": "m", "max_tokens": 16, "prompt": "What is Deep Learning?", "ignore_eos": true}'],
                                capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(json.loads(answer.stdout)["usage"]["completion_tokens"], 16)
        processes = below(server.pid)
        files = shared_files(processes)
        self.assertEqual(server.end(), 0, server.text())
        self.nothing_left_of(server, processes, files)


if __name__ == "__main__":
    skip_without_ray()
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
