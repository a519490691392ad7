"""`octet serve` on several ranks of this host: the tokens of one rank, and what happens when ranks fail.

    ranks_test.py OCTET

At length: tokens_test.py.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request

from serving import (LLAMA, OCTET, PROMPTS, QWEN, Ranked, Server, Verbs, below, error_of, gone, mpirun, shared_files, until,
                     words_of)


class SameTokens(Verbs):
    def compare(self, model, numbers):
        server = Server(self, model, 1)
        want = server.greedy(PROMPTS[:8], 24)
        self.assertEqual(server.end(), 0)
        for ranks in numbers:
            with self.subTest(model=model.name, ranks=ranks):
                server = Server(self, model, ranks)
                self.assertEqual(len(server.ranks()), ranks)
                self.assertEqual(server.greedy(PROMPTS[:8], 24), want)
                self.assertEqual(server.end(), 0, server.text())

    def test_float(self):
        self.compare(LLAMA, [3])
        self.compare(QWEN, [5])

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

    def test_without_its_part_for_mpi(self):
        octet = self.dir / "octet"
        shutil.copy(OCTET, octet)
        run = subprocess.run([octet, "serve", LLAMA, "--tp", "3"], capture_output=True, text=True, check=False)
        self.assertEqual((run.returncode, run.stderr.count("octet: error")), (1, 1), run.stderr)
        self.assertIn("liboctet_mpi.so", run.stderr)


class TwoServers(Ranked):
    def test_two_servers_at_once(self):
        servers = [Server(self, LLAMA, 2), Server(self, LLAMA, 3)]
        self.assertEqual(*(server.greedy(PROMPTS[:2], 8) for server in servers))
        left = [(below(server.pid), shared_files(below(server.pid))) for server in servers]
        for server, (processes, files) in zip(servers, left):
            self.assertEqual(server.end(), 0)
            self.nothing_left_of(server, processes, files)


class Keys(Ranked):
    def test_nobody_reads_them_in_a_command_line(self):
        """The user's own command has to be the only one."""
        file = self.dir / "keys"
        file.write_text("of-a-file\n")
        server = Server(self, LLAMA, 2, "--api_key", "secret-1", "secret-2", "--api-key-file", file)
        for pid in below(server.pid):
            for key in "secret", "of-a-file":
                self.assertNotIn(key, " ".join(words_of(pid)))
        for key, want in ("secret-1", 200), ("secret-2", 200), ("of-a-file", 200), ("secret", 401):
            self.assertEqual(self.status(server, key), want, key)
        self.assertEqual(server.end(), 0, server.text())

    def test_a_signal_reads_the_file_again(self):
        """At the process that the user has started."""
        file = self.dir / "keys"
        file.write_text("old\n")
        server = Server(self, LLAMA, 2, "--api-key-file", file)
        self.assertEqual([self.status(server, key) for key in ("old", "new")], [200, 401])
        file.write_text("new\n")
        server.process.send_signal(signal.SIGHUP)
        self.assertTrue(until(lambda: self.status(server, "new") == 200, 20), server.text())
        self.assertEqual(self.status(server, "old"), 401)
        self.assertEqual(server.end(), 0, server.text())

    def status(self, server, key):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v1/models",
                                         headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as e:
            with e:
                return e.code


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
        process = server.ranks()[0]
        self.ends(server, lambda: os.kill(process, signal.SIGKILL))
        # Who is first.
        self.assertRegex(server.errors()[0], rf"rank 0 of 2 \(process {process}\) has ended|a rank was ended by signal 9")

    def test_rank_0_stopped(self):
        server = Server(self, LLAMA, 3)
        process = server.ranks()[0]
        self.ends(server, lambda: os.kill(process, signal.SIGSTOP), f"rank 0 of 3 (process {process})")

    def test_the_end_while_it_loads(self):
        for seconds in 0, 0.2, 0.4, 0.8, 1.2:
            server = Server(self, LLAMA, 3, wait=False)
            time.sleep(seconds)
            processes = below(server.pid)
            server.process.terminate()
            self.assertIn(server.process.wait(timeout=10), (0, 130, -signal.SIGTERM), server.text())
            self.assertEqual(server.errors(), [], server.text())
            self.nothing_left_of(server, processes, [])

    def test_the_end_of_a_terminal_under_nohup(self):
        server = Server(self, LLAMA, 2, before=["nohup"])
        server.process.send_signal(signal.SIGHUP)
        self.assertIsNone(until(lambda: server.process.poll() is not None, 2))
        self.assertEqual(server.health(), 200)
        self.assertEqual(server.end(), 0, server.text())

    def test_the_launcher_killed(self):
        server = Server(self, LLAMA, 2)
        processes = below(server.pid)
        server.process.kill()
        until(lambda: all(map(gone, processes)), 10)
        self.assertTrue(all(map(gone, processes)))


class StartedAgain(Ranked):
    """--restart-ranks: they come back, so often and not more."""

    def lose_one(self, server):
        os.kill(server.ranks()[1], signal.SIGKILL)

    def test_they_come_back(self):
        server = Server(self, LLAMA, 2, "--restart-ranks")
        want = server.greedy(PROMPTS[:2], 8)
        stream = server.stream()
        seen = []
        watch = threading.Thread(target=lambda: until(lambda: seen.append(server.health()) or seen[-1] == 200 and 503 in seen, 60))
        self.lose_one(server)
        watch.start()
        self.assertIn("rank 1 of 2", error_of(stream))
        server.wait_until_ready(times=2)
        watch.join()
        self.assertIn(503, seen)
        self.assertNotIn(200, seen[seen.index(503):-1])
        self.assertEqual(server.greedy(PROMPTS[:2], 8), want)
        self.assertIn("the ranks start again in 1 s (1 of 3 times)", server.text())
        self.assertEqual(server.end(), 0, server.text())

    def test_killed_too_often(self):
        server = Server(self, LLAMA, 2, "--restart-ranks=1")
        self.lose_one(server)
        server.wait_until_ready(times=2)
        processes = below(server.pid)
        self.lose_one(server)
        self.assertEqual(server.process.wait(timeout=30), 1)
        self.assertIn("started again 1 times: enough", server.errors()[-1])
        self.nothing_left_of(server, processes, [])

    def test_one_that_never_served_is_not_started_again(self):
        self.bad(1, "no/such", "serve", self.dir / "no/such", "--tp", "2", "--restart-ranks")

    def test_the_end_while_it_waits(self):
        server = Server(self, LLAMA, 2, "--restart-ranks")
        self.lose_one(server)
        until(lambda: "start again" in server.text(), 30)
        self.assertEqual(server.end(), 0)


class UnderALauncher(Ranked):
    """The user's mpirun; and what looks like Slurm's, which is not here to be tried."""

    def test_mpirun(self):
        alone = Server(self, LLAMA, 1)
        want = alone.greedy(PROMPTS[:4], 16)
        alone.end()
        server = Server(self, LLAMA, 3, before=mpirun(3), environment={"OCTET_THREADS": "1"})
        self.assertEqual(server.greedy(PROMPTS[:4], 16), want)
        os.kill(server.ranks()[0], signal.SIGTERM)  # mpirun itself would leave a second for the end
        self.assertEqual(server.process.wait(timeout=60), 0, server.text())

    def test_mpirun_that_binds_nothing(self):
        server = Server(self, LLAMA, 2, before=[*mpirun(2), "--bind-to", "none"])
        cores = {pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
                 for cpu in os.sched_getaffinity(0)}
        if len(cores) > 1:
            first, second = map(os.sched_getaffinity, server.ranks())
            self.assertEqual(first & second, set())
        os.kill(server.ranks()[0], signal.SIGTERM)
        self.assertEqual(server.process.wait(timeout=60), 0, server.text())

    def test_a_wrong_flag_shows_once(self):
        run = subprocess.run([*mpirun(3), OCTET, "serve", LLAMA, "--no-such-flag"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertEqual(run.stderr.count("octet: error"), 1, run.stderr)

    def test_a_launcher_that_mpi_does_not_know(self):
        for environment in {"PMI_SIZE": "3", "PMI_RANK": "0"}, {"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "0"}:
            self.bad(1, ["3", "srun --mpi=pmix"], "serve", LLAMA, "--tp", "3", env={**os.environ, **environment})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
