"""The server as a process: who reads its log, and which signals it gets.

    python tests/server/process_test.py build/release/octet
"""

import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import serving


class Process(unittest.TestCase):
    def start(self, *more, stderr=subprocess.PIPE, **options):
        self.run_, url = serving.start(self.addCleanup, *more, stderr=stderr, **options)
        self.port = int(url.rsplit(":", 1)[1])

    def get(self, *paths):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        for path in paths:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, 200)
        connection.close()

    def ends(self, code, seconds):
        start = time.monotonic()
        self.assertEqual(self.run_.wait(timeout=60), code)
        self.assertLess(time.monotonic() - start, seconds)

    def test_a_log_that_nobody_reads(self):
        """64 KiB of it fit into the pipe, and 1 MiB wait: the lines of 20 000 requests are twice that."""
        self.start()
        self.get(*["/v1/models"] * 20000)
        self.get("/health")
        self.run_.send_signal(signal.SIGTERM)
        self.ends(0, seconds=10)

    def test_a_log_whose_reader_is_gone(self):
        self.start()
        self.run_.stdout.close()
        self.get(*["/v1/models"] * 100)
        self.get("/health")
        self.run_.send_signal(signal.SIGTERM)
        self.ends(0, seconds=10)

    def stream(self):
        """A connection on which a long answer has begun to come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.addCleanup(connection.close)  # until then it stays open
        connection.request("POST", "/v1/completions", json.dumps(
            {"model": str(serving.LLAMA), "prompt": "On Monday", "max_tokens": 2000, "ignore_eos": True, "stream": True,
             "temperature": 0}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        response.readline()
        return response

    def status(self, path, key=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def test_a_model_that_computes_no_numbers(self):
        """Its requests end with an error that says what to do; the server stays."""
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "model"
            shutil.copytree(serving.LLAMA, model)
            data = bytearray((model / "model.safetensors").read_bytes())
            begin = 8 + int.from_bytes(data[:8], "little")
            tensor = json.loads(data[8:begin])["model.layers.3.mlp.up_proj.weight"]
            begin += tensor["data_offsets"][0]
            data[begin:begin + 2] = b"\xc0\x7f"  # NaN
            (model / "model.safetensors").write_bytes(data)
            self.start(model=model)
            for stream in False, True:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", "/v1/completions", json.dumps(
                    {"model": "", "prompt": "It rains", "max_tokens": 5, "stream": stream}),
                    {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.assertEqual(response.status, 200 if stream else 500)
                text = response.read().decode()
                self.assertIn("NaN or infinite logits", text)
                self.assertIn(f"octet check {model}", text)
                connection.close()
            self.get("/health")

    def test_while_it_stops_health_says_so_and_answers_come_to_their_end(self):
        self.start()
        response = self.stream()
        self.run_.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        self.assertEqual(self.status("/health"), 503)
        self.assertTrue(response.read().endswith(b"data: [DONE]\n\n"))
        self.ends(0, seconds=10)

    def test_a_second_signal_ends_it_at_once(self):
        self.start()
        self.stream()
        self.run_.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        self.run_.send_signal(signal.SIGINT)
        self.ends(1, seconds=2)
        self.assertIn("second signal", self.run_.stderr.read())

    def signal_twice(self):
        self.run_.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        self.run_.send_signal(signal.SIGTERM)

    def test_a_second_signal_while_nobody_reads(self):
        """stdout and stderr are one pipe, and it is full."""
        self.start(stderr=subprocess.STDOUT)
        self.get(*["/v1/models"] * 5000)  # some 400 KB of lines
        self.stream()
        self.signal_twice()
        self.ends(1, seconds=4)

    def test_a_second_signal_when_the_reader_is_gone(self):
        self.start(stderr=subprocess.STDOUT)
        self.stream()
        self.run_.stdout.close()
        self.signal_twice()
        self.ends(1, seconds=4)

    def test_keys_are_read_again_on_sighup(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "keys"
            keys.write_text("# ours\nfirst\n")
            self.start("--api-key-file", keys)
            self.assertEqual([self.status("/v1/models", k) for k in ("first", "second")], [200, 401])
            keys.write_text("second\n")
            self.run_.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            self.assertEqual([self.status("/v1/models", k) for k in ("first", "second")], [401, 200])
            keys.unlink()  # what is wrong changes nothing
            self.run_.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            self.assertEqual([self.status("/v1/models", k) for k in ("first", "second")], [401, 200])
            self.run_.send_signal(signal.SIGTERM)
            self.ends(0, seconds=10)

    def test_all_lines_come_where_they_are_read(self):
        self.start()
        self.get(*["/v1/models"] * 50)
        self.run_.send_signal(signal.SIGTERM)
        self.assertEqual(sum("/v1/models" in line for line in self.run_.stdout), 50)
        self.ends(0, seconds=10)


if __name__ == "__main__":
    unittest.main()
