"""`octet serve`, `quantize` and `eval` over three hosts, which are namespaces of this machine (hosts.py), each with its own part of the job: by
the user's mpirun, and by Ray with a node on each. The tokens of one rank, and what happens when something fails.

    hosts_test.py OCTET      exit code 77: not allowed here

What needs Ray is left out, and says so, where there is none.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import hosts as namespaces
from ray_cluster import Node, environment, python, ray_folder
from serving import LLAMA, OCTET, PROMPTS, ROOT, Ranked, Server, below, free_port, gone, rank_of, until, words_of
from testing import CALIB, MINDIE

RECIPE = ["--recipe", "octet", "--dynamic-budget", "2"]


class OverHosts(Ranked):
    """Two ranks on the first host, one on each other."""

    @classmethod
    def setUpClass(cls):
        if not hasattr(OverHosts, "hosts"):
            OverHosts.folder = pathlib.Path(tempfile.mkdtemp(prefix="octet_hosts_"))
            unittest.addModuleCleanup(shutil.rmtree, OverHosts.folder, ignore_errors=True)
            OverHosts.hosts = namespaces.make(3, OverHosts.folder)
            OverHosts.shell = namespaces.remote_shell(OverHosts.hosts, OverHosts.folder)

    def same_tokens(self, server, tell_to_end):
        alone = Server(self, LLAMA, 1)
        want = alone.greedy(PROMPTS[:4], 16)
        self.assertEqual(alone.end(), 0)
        self.assertEqual([len(host.ranks()) for host in self.hosts], [2, 1, 1])
        begin = time.monotonic()
        self.assertEqual(server.greedy(PROMPTS[:4], 16), want)
        print(f"{self.id().split('.', 1)[1]}: 4 x 16 tokens in {time.monotonic() - begin:.1f} s", file=sys.stderr)
        processes = self.of_the_job()
        tell_to_end()
        self.assertEqual(server.process.wait(timeout=60), 0, server.text())
        self.nothing_left_of(server, processes, [])

    def of_the_job(self):
        """Ranks, and Open MPI's daemons."""
        return [pid for host in self.hosts for pid in host.processes()
                if rank_of(pid) is not None or any(word in words_of(pid) for word in ("serve", "octet_ray", "mpirun", "orted"))]

    def nothing_left_of(self, server, processes, files):
        super().nothing_left_of(server, processes, files)
        # Ray's object store is named plasma, or by its node's folder.
        left = [path for host in self.hosts for path in host.shared_files() if "plasma" not in path.name]
        self.assertEqual(left, [])


class ByMpirun(OverHosts):
    def before(self):
        return namespaces.mpirun(self.hosts, [2, 1, 1], self.shell)

    def server(self):
        return Server(self, LLAMA, 4, before=self.before(), address=self.hosts[0].address)

    def test_the_tokens_of_one_rank(self):
        # mpirun itself would leave a second for the end, and call it a failure.
        server = self.server()
        self.same_tokens(server, lambda: os.kill(self.hosts[0].ranks()[0], signal.SIGTERM))

    def octet(self, before, *words):
        run = subprocess.run([*before, OCTET, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                             timeout=300, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def quantize(self, name, *flags):
        return ["quantize", "--model_path", LLAMA, "--save_directory", self.dir / name, "--calib_file", CALIB, *flags]

    def weights(self, name):
        return (self.dir / name / "quant_model_weight_w8a8.safetensors").read_bytes()

    def test_quantizing_and_measuring(self):
        for flags in MINDIE, RECIPE:
            for name, before in ("one", []), ("four", self.before()):
                self.octet(before, *self.quantize(name, "--overwrite", *flags))
            self.assertEqual(self.weights("one"), self.weights("four"), flags)
        one, four = (json.loads(self.octet(before, "eval", LLAMA, self.dir / "one", "--text", ROOT / "models/text.jsonl",
                                           "--passages", "2", "--json", "--quiet")) for before in ([], self.before()))
        for want, got in zip(one, four):
            self.assertAlmostEqual(want["perplexity"], got["perplexity"], delta=1e-4 * want["perplexity"])

    def test_faults_while_quantizing(self):
        self.octet([], *self.quantize("one", *RECIPE))
        away = self.hosts[2]
        self.addCleanup(away.run, "ip", "link", "set", "eth0", "up")
        for fault in (lambda: os.kill(away.ranks()[0], signal.SIGKILL),
                      lambda: away.run("ip", "link", "set", "eth0", "down")):
            before = [word for word in self.before() if word != "--quiet"]  # mpirun is to say what it has noticed
            words = [*before, OCTET, *map(str, self.quantize("four", *RECIPE))]
            run = subprocess.Popen(words, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.addCleanup(lambda run=run: run.poll() is None and run.kill())
            self.assertTrue(until((self.dir / "four.partial/journal").exists, 60))
            processes = self.of_the_job()
            begin = time.monotonic()
            fault()
            said, _ = run.communicate(timeout=60)
            print(f"{self.id().split('.', 1)[1]}: {time.monotonic() - begin:.1f} s", file=sys.stderr)
            self.assertLess(time.monotonic() - begin, 10, said)
            self.assertNotEqual(run.returncode, 0, said)
            self.assertTrue(away.name in said or away.address in said, said)
            self.assertFalse((self.dir / "four").exists())
            self.assertTrue(until(lambda: all(map(gone, processes)), 40), [words_of(pid) for pid in processes])
            away.run("ip", "link", "set", "eth0", "up")
            self.octet(self.before(), *self.quantize("four", *RECIPE, "--resume"))
            self.assertEqual(self.weights("one"), self.weights("four"))
            shutil.rmtree(self.dir / "four")


@unittest.skipIf(python() is None, "no Ray (scripts/setup --with ray, or OCTET_RAY_PYTHON)")
class ByRay(OverHosts):
    CPUS = [2, 1, 1]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.environ["RAY_AUTH_MODE"] = "disabled"  # a node that joins does not ask how the others do
        cls.ray = ray_folder(cls)
        cls.nodes = [None, None, None]
        cls.addClassCleanup(lambda: [node.end() for node in cls.nodes if node])

    def setUp(self):
        super().setUp()
        # Those that a test has ended start again.
        for i, host in enumerate(self.hosts):
            if self.nodes[i] is None or self.nodes[i].process.poll() is not None:
                head = None if i == 0 else self.nodes[0].cluster
                self.nodes[i] = Node(self.ray / str(i), host.address, 6379, self.CPUS[i], head, host.before)
                self.nodes[i].wait()
        self.assertTrue(until(lambda: "/4.0 CPU" in self.nodes[0].status(), 60), self.nodes[0].status())

    def server(self, model=LLAMA, *more, **options):
        return Server(self, model, 4, *more, backend="ray", before=self.hosts[0].before, address=self.hosts[0].address,
                      environment=environment(self.ray / "0", self.nodes[0].cluster), **options)

    def test_the_tokens_of_one_rank(self):
        server = self.server()
        self.same_tokens(server, server.process.terminate)
        self.assertTrue(until(lambda: " 0.0/4.0 CPU\n" in self.nodes[0].status(), 15), self.nodes[0].status())

    def test_rank_0_is_where_the_launcher_is_if_it_has_room(self):
        # Ray knows the node of a host by its process, and these hosts see each other's.
        launcher = self.hosts[1]
        for i in 0, 2:
            for pid in below(self.nodes[i].process.pid):
                if words_of(pid)[0].endswith("/raylet"):
                    launcher.hide(f"/proc/{pid}")
                    self.addCleanup(launcher.show, f"/proc/{pid}")
        more = {**environment(self.ray / "1", self.nodes[0].cluster), "VLLM_TOLD": "a;b c"}
        first, second = (Server(self, LLAMA, 2, backend="ray", before=launcher.before, address=launcher.address, environment=more)
                         for _ in range(2))
        self.assertEqual(first.health(), 200)
        self.assertNotIn("note: rank 0", first.text())
        self.assertIn(f"{launcher.address} has no room", second.text())
        second.address = re.search("rank 0, which answers HTTP, is on ([0-9.]*):", second.text())[1]
        self.assertEqual(second.health(), 200)
        ranks = [pid for host in self.hosts for pid in host.ranks()]
        self.assertEqual(len(ranks), 4)
        for pid in ranks:
            told = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
            self.assertIn("VLLM_TOLD=a;b c", told)
            self.assertIn("OCTET_THREADS=1", told)
        self.assertEqual(first.end(), 0, first.text())

    def test_a_rank_on_another_host_is_killed_while_it_streams(self):
        server = self.server()
        stream = server.stream()
        self.ends(server, lambda: os.kill(self.hosts[2].ranks()[0], signal.SIGKILL), "rank", processes=self.of_the_job(),
                  stream=stream)

    def test_a_node_is_lost(self):
        server = self.server()
        stream = server.stream()
        self.ends(server, self.nodes[2].end, self.hosts[2].address, processes=self.of_the_job(), stream=stream,
                  told="another rank has ended")

    def test_the_link_of_a_host_is_cut(self):
        server = self.server()
        stream = server.stream()
        cut = self.hosts[2]
        self.addCleanup(self.nodes[2].end)
        self.addCleanup(cut.run, "ip", "link", "set", "eth0", "up")
        there = [pid for pid in self.of_the_job() if pid in cut.processes()]
        others = [pid for pid in self.of_the_job() if pid not in there]
        self.ends(server, lambda: cut.run("ip", "link", "set", "eth0", "down"), "rank", processes=others, stream=stream)
        # Nobody can tell the host that was cut off: its rank gives up by itself.
        self.assertTrue(until(lambda: all(map(gone, there)), 40), [words_of(pid) for pid in there])

    def test_a_host_without_the_checkpoint(self):
        model = self.dir / "model"
        shutil.copytree(LLAMA, model)
        self.hosts[1].hide(model)
        self.addCleanup(self.hosts[1].show, model)
        # From the very start, for which Ray alone takes some seconds.
        self.ends(self.server(model, wait=False), lambda: None, str(model), "octet-host2")

    def test_a_port_that_is_taken(self):
        port = free_port()
        taken = subprocess.Popen([*self.hosts[0].before, sys.executable, "-c", "import socket, time; s = socket.socket(); "
                                  f"s.bind(('', {port})); s.listen(); print('here', flush=True); time.sleep(600)"],
                                 stdout=subprocess.PIPE, text=True)
        self.addCleanup(taken.stdout.close)
        self.addCleanup(taken.wait)
        self.addCleanup(taken.kill)
        self.assertEqual(taken.stdout.readline(), "here\n")
        self.ends(self.server(LLAMA, "--port", str(port), wait=False), lambda: None, str(port), "another --port")


if __name__ == "__main__":
    namespaces.enter()
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
