"""Who may ask the server, and how many: keys from flags, files and the environment; connections.

    python tests/server/keys_test.py build/release/octet
"""

import os
import pathlib
import resource
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import serving


class Keys(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "keys"

    def start(self, *more, environment=None, limit=None):
        _, self.url = serving.start(
            self.addCleanup, *more, env={**os.environ, **(environment or {})},
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)))

    def status(self, path, key=None):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {key}"} if key else {})
        try:
            return urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as e:
            with e:
                return e.code

    def refused(self, *more):
        run = subprocess.run(serving.command(*more), capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(run.returncode, 2, run.stderr)
        return run.stderr

    def test_what_is_no_key(self):
        self.assertIn("--api-key", self.refused("--api-key", ""))
        self.assertIn("--api-key", self.refused("--api-key="))
        self.assertIn("--api-key", self.refused("--api-key", "a", ""))
        self.assertIn("--guard-all-paths", self.refused("--guard-all-paths"))
        self.assertIn(str(self.file), self.refused("--api-key-file", str(self.file)))
        self.file.write_text("# no key\n\n")
        self.assertIn("holds no key", self.refused("--api-key-file", str(self.file)))

    def test_a_file_of_keys(self):
        self.file.write_text("# of the team\nfirst\n\n  second \r\n")
        self.start("--api-key-file", str(self.file), "--api-key", "third", environment={"VLLM_API_KEY": "fourth"})
        for key in "first", "second", "third":
            self.assertEqual(self.status("/v1/models", key), 200, key)
        for key in None, "fourth", "#", "# of the team":
            self.assertEqual(self.status("/v1/models", key), 401, key)
        self.assertEqual(self.status("/metrics"), 200)

    def test_all_paths(self):
        self.start("--api-key", "k", "--guard-all-paths")
        for path in "/metrics", "/version", "/load", "/v1/models", "/nothing":
            self.assertEqual(self.status(path), 401, path)
        self.assertEqual(self.status("/metrics", "k"), 200)
        for path in "/health", "/ping":
            self.assertEqual(self.status(path), 200, path)

    def test_keys_of_the_environment(self):
        self.start(environment={"OCTET_API_KEYS": "one\ntwo"})
        self.assertEqual([self.status("/v1/models", key) for key in (None, "one", "two", "one\\ntwo")],
                         [401, 200, 200, 401])

    def test_more_connections_than_a_shell_allows(self):
        self.start(limit=(64, 1024))
        silent = [socket.create_connection(("127.0.0.1", int(self.url.rsplit(":", 1)[1]))) for _ in range(300)]
        self.assertEqual(self.status("/health"), 200)
        for connection in silent:
            connection.close()


if __name__ == "__main__":
    unittest.main()
