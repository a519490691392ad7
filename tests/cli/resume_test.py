#!/usr/bin/env python3
"""Interruptions of `octet quantize`, from outside: kills at random moments, full disks, what a later run
makes of the leftovers.

    tests/cli/resume_test.py path/to/octet [--kills N] [unittest's arguments]     (needs nothing but Python)
"""
import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest

from testing import CALIB, LLAMA, MINDIE, OCTET, QWEN, Verbs, octet

parser = argparse.ArgumentParser()
parser.add_argument("--kills", type=int, default=8, help="of each way of quantizing")
parser.add_argument("--seed", type=int, default=None)
ARGS, REST = parser.parse_known_args(sys.argv[2:])
WAYS = {  # every way with state of its own: model, flags
    "recipe": (LLAMA, []),
    "mindie": (QWEN, MINDIE),
    "dynamic": (QWEN, ["--is_dynamic", "True", "--part_file_size", "0.001"]),
}


def tree(folder):
    """File -> content, without the time that it took."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.name == "quantization_report.json":
            report = json.loads(data)
            report.pop("seconds")
            data = json.dumps(report).encode()
        if path.suffix == ".html":
            data = re.sub(rb"[0-9.]+ (s|min [0-9]+ s)\b", b"TIME", data)
        files[str(path.relative_to(folder))] = data
    return files


class Interruptions(Verbs):
    maxDiff = 600

    def setUp(self):
        super().setUp()
        self.out = self.dir / "out"
        self.partial = self.dir / "out.partial"
        self.calib = self.dir / "calib.jsonl"  # a few texts: what counts here is not the result
        self.calib.write_text("".join(CALIB.read_text().splitlines(keepends=True)[:4]))

    def command(self, way, *more, out=None):
        model, flags = WAYS[way]
        return ["quantize", str(model), str(out or self.out), "--calib_file", str(self.calib), "--quiet", *flags, *more]

    def whole(self, way):
        """What an unbroken run writes."""
        self.good(*self.command(way, out=self.dir / "whole"))
        files = tree(self.dir / "whole")
        shutil.rmtree(self.dir / "whole")
        return files

    def same(self, files):
        got = tree(self.out)
        self.assertEqual(sorted(got), sorted(files))
        self.assertEqual([name for name in files if got[name] != files[name]], [])

    def stopped(self, way, *more, how=signal.SIGKILL):
        """A run that was ended after a layer was finished."""
        run = subprocess.Popen([OCTET, *self.command(way, *more)], stderr=subprocess.PIPE, text=True)
        while not (self.partial / "journal").exists():
            self.assertIsNone(run.poll(), "the run ended before its first layer")
            time.sleep(0.001)
        run.send_signal(how)
        return run


class Kills(Interruptions):
    def test_kills_at_random_moments(self):
        self.of_each_way([signal.SIGKILL], [-signal.SIGKILL])

    def test_signals_at_random_moments(self):
        """130 while layers are worked on; before and after that nothing is lost by the signal's own way."""
        self.of_each_way([signal.SIGTERM, signal.SIGINT], [130, -signal.SIGTERM, -signal.SIGINT])

    def of_each_way(self, signals, codes):
        seed = ARGS.seed if ARGS.seed is not None else random.randrange(1 << 30)
        print(f"seed {seed}, {ARGS.kills} signals for each way", flush=True)
        chance = random.Random(seed)
        for way in WAYS:
            with self.subTest(way=way, seed=seed):
                self.killed(way, chance, signals, codes)

    def killed(self, way, chance, signals, codes):
        start = time.monotonic()
        files = self.whole(way)
        longest = time.monotonic() - start
        kills = resumed = 0
        while kills < ARGS.kills:
            had_journal = (self.partial / "journal").exists()
            run = subprocess.Popen([OCTET, *self.command(way, "--resume")], stderr=subprocess.PIPE, text=True)
            time.sleep(chance.uniform(0, longest))
            run.send_signal(chance.choice(signals))
            words = run.communicate()[1]
            self.assertIn(run.returncode, [0, *codes], words)
            kills += run.returncode != 0
            resumed += had_journal
            if self.out.exists():  # finished, in this run or just before it was killed
                self.same(files)
                shutil.rmtree(self.out)
                shutil.rmtree(self.partial, ignore_errors=True)
            else:
                left = {path.name for path in self.dir.iterdir()}
                self.assertLessEqual(left, {"out.partial", "calib.jsonl"})
                if self.partial.exists():
                    self.assertEqual(list(self.partial.glob("*.safetensors")) + list(self.partial.glob("config.json")), [])
        self.stopped(way, "--resume").communicate()  # whatever chance did, one run goes on
        if self.out.exists():
            self.same(files)
            shutil.rmtree(self.out)
        self.good(*self.command(way, "--resume"))
        self.same(files)
        self.assertFalse(self.partial.exists())
        shutil.rmtree(self.out)
        print(f"{way}: {kills} kills, {resumed} runs that went on", flush=True)


class Leftovers(Interruptions):
    def test_a_leftover_is_neither_lost_nor_in_the_way(self):
        files = self.whole("mindie")
        self.stopped("mindie").communicate()
        self.bad(2, ["out.partial", "--resume", "--overwrite"], *self.command("mindie"))
        self.good(*self.command("dynamic", out=self.dir / "int8"))
        self.bad(2, ["out.partial", "--overwrite"], "convert", self.dir / "int8", self.out, "--to", "msmodelslim")
        self.assertTrue((self.partial / "journal").exists())
        self.good(*self.command("mindie", "--overwrite"))
        self.same(files)
        self.assertFalse(self.partial.exists())

    def test_overwriting_is_resumed_with_both_flags(self):
        files = self.whole("mindie")
        self.out.mkdir()
        (self.out / "config.json").write_text("{}")
        (self.out / "old").write_text("old")
        self.stopped("mindie", "--overwrite").communicate()
        self.bad(2, "not empty", *self.command("mindie", "--resume"))
        self.assertEqual((self.out / "old").read_text(), "old")
        self.good(*self.command("mindie", "--resume", "--overwrite"))
        self.same(files)

    def test_a_target_that_was_being_replaced_comes_back(self):
        self.partial.mkdir()
        (self.partial / "lock").write_text("")
        (self.partial / "old").mkdir()
        (self.partial / "old" / "x").write_text("x")
        self.bad(2, "not empty", *self.command("mindie"))
        self.assertEqual((self.out / "x").read_text(), "x")

    def test_another_folder_of_that_name_is_left_alone(self):
        self.partial.mkdir()
        (self.partial / "mine").write_text("mine")
        self.bad(2, ["out.partial", "in the way"], *self.command("mindie", "--overwrite"))
        self.assertEqual((self.partial / "mine").read_text(), "mine")

    def test_a_second_run_is_refused(self):
        run = self.stopped("recipe", how=signal.SIGSTOP)
        self.bad(2, ["out.partial", "another run"], *self.command("recipe", "--resume"))
        run.send_signal(signal.SIGCONT)
        self.assertNotIn("error", run.communicate()[1])
        self.assertTrue((self.out / "config.json").exists())

    def test_a_signal_keeps_what_is_finished(self):
        for number in signal.SIGINT, signal.SIGTERM:
            run = self.stopped("recipe", how=number)
            words = run.communicate()[1]
            self.assertEqual(run.returncode, 130, words)
            self.assertIn("out.partial keeps the finished layers: the same command with --resume goes on",
                          words.splitlines()[-1])
            self.assertTrue(self.partial.exists())
            words = octet(*[w for w in self.command("recipe", "--resume") if w != "--quiet"]).stderr
            self.assertRegex(words, r"resumed at layer \d+ of 12")
            shutil.rmtree(self.out)

    def test_no_loader_takes_it_for_a_model(self):
        self.stopped("mindie").communicate()
        for verb in "check", "serve", "inspect":
            run = octet(verb, self.partial)
            self.assertEqual(run.returncode, 1, run.stderr)
            self.assertIn("--resume", run.stdout + run.stderr)

    def test_only_the_same_run_goes_on(self):
        model = self.dir / "model"
        shutil.copytree(QWEN, model)
        base = ["quantize", model, self.out, "--calib_file", self.calib, "--quiet", *MINDIE]
        run = subprocess.Popen([OCTET, *map(str, base)])
        while not (self.partial / "journal").exists():
            time.sleep(0.001)
        run.kill()
        run.wait()
        journal = (self.partial / "journal").read_bytes()
        self.bad(2, ["out.partial", "--anti_method", "expected m3", "found m4"], *base, "--resume", "--anti_method", "m4")
        self.bad(2, "--part_file_size", *base, "--resume", "--part_file_size", "1")
        self.bad(2, "choose_types of the recipe", *base[:6], "--resume", "--recipe", "octet", "--dynamic-budget", "0")
        self.bad(2, "calibration text", *base[:3], "--calib_texts", "other", "--quiet", *MINDIE, "--resume")
        self.bad(2, "instruction set", *base, "--resume", env=dict(os.environ, OCTET_ISA="ref"))
        config = json.loads((model / "config.json").read_text())
        config["rope_theta"] *= 2
        (model / "config.json").write_text(json.dumps(config))
        (model / "model-00002-of-00002.safetensors").touch()
        self.bad(2, ["config.json of the model", "model-00002-of-00002.safetensors"], *base, "--resume")
        self.assertEqual((self.partial / "journal").read_bytes(), journal)

    def test_damage_is_named(self):
        self.stopped("mindie").communicate()
        journal = self.partial / "journal"
        whole = journal.read_bytes()
        middle = len(whole) // 2
        for data in b"", whole[:4], whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:], b"\xff" * 100:
            journal.write_bytes(data)
            self.bad(1, ["journal", "damaged", "--overwrite"], *self.command("mindie", "--resume"))
        journal.write_bytes(whole)
        states = next(self.partial.glob("states-*"))
        good = states.read_bytes()
        middle = len(good) // 2
        for data in good[:-4], good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1:]:
            states.write_bytes(data)
            self.bad(1, ["states-", "--overwrite"], *self.command("mindie", "--resume"))


class Trouble(Interruptions):
    def limited(self, size):
        def limit():  # as on a full disk: writing beyond it fails
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return limit

    def test_a_full_disk_loses_nothing(self):
        for way in "recipe", "mindie":
            with self.subTest(way=way):
                files = self.whole(way)
                weights = max(len(data) for name, data in files.items() if name.endswith(".safetensors"))
                self.bad(1, ["File too large", "out.partial keeps", "--resume"], *self.command(way),
                         preexec_fn=self.limited(weights * 9 // 10))
                self.good(*self.command(way, "--resume"))
                self.same(files)
                shutil.rmtree(self.out)

    def test_a_small_file_system(self):
        """A real one, in a mount namespace; then it grows, and the run goes on."""
        files = self.whole("mindie")
        disk = self.dir / "disk"
        disk.mkdir()
        quantize = " ".join([OCTET, *self.command("mindie", out=disk / "out")])
        elsewhere = " ".join([OCTET, *self.command("mindie", out=disk / "other")])
        script = (f"mount -t tmpfs -o size=4m none {disk} || exit 99\n{quantize} 2> {self.dir}/words; echo $? >> {self.dir}/words\n"
                  f"mount -o remount,size=64m {disk} && {quantize} --resume && cp -r {disk}/out {self.out}\n"
                  f"mount -o remount,ro {disk} && {elsewhere} 2> {self.dir}/read_only; echo $? >> {self.dir}/read_only")
        run = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=300)
        if run.returncode == 99 or "unshare" in run.stderr:
            self.skipTest("mount namespaces are not permitted here")
        words = (self.dir / "words").read_text()
        self.assertIn("No space left on device", words)
        self.assertIn("--resume", words)
        self.assertEqual(words.split()[-1], "1")
        self.same(files)
        words = (self.dir / "read_only").read_text()
        self.assertIn("Read-only file system", words)
        self.assertEqual(words.split()[-1], "2")  # found before any work

    def test_no_room_for_activations_is_an_error_at_once(self):
        self.bad(1, ["no room for", "--memory-limit"], *self.command("recipe", "--memory-limit", "1M"),
                 preexec_fn=self.limited(1 << 16))
        self.assertFalse(self.partial.exists())

    def test_calibration_text_that_vanished(self):
        self.stopped("mindie").communicate()
        texts = self.calib.read_text()
        self.calib.unlink()
        self.bad(1, "calib.jsonl", *self.command("mindie", "--resume"))
        self.calib.write_text(texts)
        self.good(*self.command("mindie", "--resume"))

    def test_memory_limit_changes_no_byte(self):
        for way in WAYS:
            with self.subTest(way=way):
                files = self.whole(way)
                self.good(*self.command(way, "--memory_limit", "1M"))
                self.same(files)
                shutil.rmtree(self.out)
        self.bad(2, "--memory-limit", *self.command("mindie", "--memory-limit", "much"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *REST], verbosity=1)
