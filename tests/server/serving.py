"""`octet serve` as a child process, for the tests beside this file. The program is their first argument."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OCTET = str(pathlib.Path(sys.argv.pop(1)).resolve())
LLAMA, QWEN3 = ROOT / "models/llama3_tiny_bf16", ROOT / "models/qwen3_tiny_bf16"


def command(*more, model=LLAMA):
    """On a port that is free."""
    return [OCTET, "serve", "--model", str(model), "--host", "127.0.0.1", "--port", "0", *map(str, more)]


def start(cleanup, *more, model=LLAMA, stderr=subprocess.STDOUT, **options):
    """The process and its URL, once it is ready; its stdout can be read from there on. `cleanup`: registers what is to
    be done at the end (addCleanup, addClassCleanup); `options`: of Popen."""
    process = subprocess.Popen(command(*more, model=model), stdout=subprocess.PIPE, stderr=stderr, text=True, **options)
    for pipe in process.stdout, process.stderr:
        if pipe is not None:
            cleanup(pipe.close)
    cleanup(process.wait)
    cleanup(process.kill)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Octet is ready at "):
            return process, line.split()[-1]
    raise AssertionError("".join(lines) + (process.stderr.read() if process.stderr else ""))
