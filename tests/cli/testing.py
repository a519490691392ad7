"""What the tests of the command line share. The program is the first argument of the test."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OCTET = str(pathlib.Path(sys.argv[1]).resolve())
LLAMA = ROOT / "models/llama3_tiny_bf16"
QWEN = ROOT / "models/qwen2_tiny_fp16"
QWEN3 = ROOT / "models/qwen3_tiny_bf16"
CALIB = ROOT / "models/calib.jsonl"
MINDIE = ["--device_type", "cpu", "--disable_level", "L5", "--anti_method", "m3", "--act_method", "3"]


def octet(*args, stdin="", **options):
    return subprocess.run([OCTET, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=900, **options)


class Model:
    """A copy of a model folder whose config.json and tensors can be changed: {name: (dtype, shape, bytes)}."""

    def __init__(self, source, folder):
        self.folder = pathlib.Path(folder)
        shutil.copytree(source, self.folder)
        self.config = json.loads((self.folder / "config.json").read_text())
        self.tensors = {}
        for file in sorted(self.folder.glob("*.safetensors*")):
            if file.suffix == ".safetensors":
                self.tensors.update(read_safetensors(file))
            file.unlink()

    def write(self):
        (self.folder / "config.json").write_text(json.dumps(self.config, indent=2))
        write_safetensors(self.folder / "model.safetensors", self.tensors)
        return self.folder

    def cut_rows(self, name, rows):
        dtype, shape, data = self.tensors[name]
        self.tensors[name] = (dtype, [rows, *shape[1:]], data[:len(data) // shape[0] * rows])


def read_safetensors(file):
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[start + t["data_offsets"][0]:start + t["data_offsets"][1]])
            for name, t in header.items()}


def write_safetensors(file, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))


class Verbs(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="octet_cli_"))
        self.addCleanup(shutil.rmtree, self.dir)

    def good(self, *args, **options):
        run = octet(*args, **options)
        self.assertEqual(run.returncode, 0, f"{args}: {run.stderr}")
        return run.stdout

    def bad(self, code, words, *args, **options):
        """Ends with `code` and one line on stderr that holds all `words`."""
        run = octet(*args, **options)
        self.assertEqual(run.returncode, code, f"{args}: {run.stdout}{run.stderr}")
        lines = [line for line in run.stderr.splitlines()
                 if not line.startswith(("octet: note:", "octet: warning:", "quantize:")) and "Run with --help" not in line]
        self.assertEqual(len(lines), 1, run.stderr)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, lines[0])

    def quantize(self, model, out, *more):
        return self.good("quantize", "--model_path", model, "--save_directory", out, "--calib_file", CALIB, *more)

    def types_of(self, out):
        self.good("check", out)
        return json.loads((out / "quant_model_description.json").read_text())

    def nothing_left(self):
        self.assertEqual(list(self.dir.iterdir()), [])
