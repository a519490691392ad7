"""What the documents say of the source tree is so: the files that they name are there, every .cc file
has its test, files are short, and counts agree. What is compared with what the program does (flags,
messages) has tests in tests/cli."""

import functools
import itertools
import pathlib
import re
import sys

import levels_test

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONGEST = 500  # lines
LONG = {"tests/cli/cli_test.py"}
ENDINGS = "cc|h|inl|py|sh|css|cmake|md|rs|yaml|json|jsonl|txt"

# Files without a _test.cc of their own, by what tests them instead.
TESTED_BY = {
    # The verbs: from outside.
    "tests/cli/cli_test.py": [
        "src/cli/bench.cc", "src/cli/bench_attention.cc", "src/cli/bench_kernels.cc", "src/cli/bench_machine.cc", "src/cli/bench_make_model.cc",
        "src/cli/chat.cc", "src/cli/check.cc", "src/cli/generate.cc",
        "src/cli/inspect.cc", "src/cli/main.cc", "src/cli/plan.cc", "src/cli/runtime.cc",
        "src/cli/serve.cc", "src/cli/serve_flags.cc", "src/cli/shapes.cc",
        "src/cli/serve_known_flags.cc", "src/cli/serve_resolve.cc"],
    "tests/cli/completion_test.py": ["src/cli/completion.cc"],
    "tests/cli/quantize_flags_test.py": ["src/cli/quantize.cc", "src/cli/quantize_flags.cc",
        "src/cli/quantize_options.cc", "src/cli/quantize_outside.cc", "src/cli/quantize_run.cc",
                                         "src/cli/quantize_summary.cc"],
    "tests/cli/quantize_calibration_test.py": ["src/cli/quantize_calibration.cc",
                                               "src/quant/settings/calibration.cc"],
    "tests/cli/quantize_quant_test.py": ["src/cli/quantize_quant.cc"],
    "tests/cli/report_test.py": ["src/cli/compare.cc", "src/cli/compared_models.cc",
                                 "src/cli/eval.cc", "src/cli/report.cc"],
    "tests/dist/ranks_test.py": [
        "src/cli/ranks.cc", "src/cli/serve_ending.cc", "src/dist/communicator.cc",
        "src/dist/launch.cc", "src/dist/mpi/plugin.cc", "src/dist/mpi_communicator.cc", "src/dist/mpi_job.cc"],
    "tests/server/process_test.py": ["src/cli/serve_log.cc"],
    "tests/dist/offline_test.py": ["src/cli/bench_sums.cc"],
    "tests/loaders/convert_test.py": [
        "src/cli/convert.cc", "src/quant/relayout/relayout.cc"],
    "tests/cli/resume_test.py": ["src/quant/output/fingerprint.cc"],
    # Parts of a class or a flow, by the test of the whole.
    "src/base/file_test.cc": ["src/base/json.cc"],
    "src/checkpoint/check_test.cc": ["src/checkpoint/check_files.cc",
                                     "src/checkpoint/findings.cc",
                                     "src/checkpoint/quant_tensors.cc"],
    "src/checkpoint/safetensors_test.cc": ["src/checkpoint/dtype.cc",
                                           "src/checkpoint/safetensors_writer.cc"],
    "src/text/messages_test.cc": ["src/text/white_space.cc"],
    "src/text/tokens_around_test.cc": ["src/text/tokenizer_class.cc"],
    "src/text/gguf_tokenizer_test.cc": ["src/text/bpe_json.cc"],
    "src/kernels/kernels_test.cc": [
        "src/kernels/amx/amx.cc", "src/kernels/avx2/avx2.cc", "src/kernels/avx512/avx512.cc",
        "src/kernels/avxvnni/avxvnni.cc", "src/kernels/emulated/amx.cc", "src/kernels/emulated/avx512.cc",
        "src/kernels/emulated/avxvnni.cc", "src/kernels/ref/ref.cc",
        "src/kernels/testing/emulated_everywhere.cc"],
    "src/machine/machine_test.cc": ["src/machine/cpu.cc", "src/machine/memory.cc",
                                    "src/machine/thread_team.cc", "src/machine/topology.cc"],
    "src/model/linear_test.cc": [
        "src/model/float_linear.cc", "src/model/int8_linear.cc",
        "src/model/linear_group.cc", "src/model/make_linear.cc", "src/model/mix_linear.cc"],
    "src/model/ranks_test.cc": ["src/model/reduced_linear.cc"],
    "src/model/transformer_test.cc": ["src/model/block_pool.cc", "src/model/kv_cache.cc",
                                      "src/model/rope.cc"],
    "src/quant/output/export_test.cc": ["src/quant/output/summary.cc"],
    "src/quant/msmodelslim/outlier_test.cc": ["src/quant/msmodelslim/outlier_m1.cc",
                                                "src/quant/msmodelslim/outlier_m4.cc"],
    "src/quant/settings/options_test.cc": ["src/quant/settings/anti_method.cc"],
    "src/quant/msmodelslim/observer_test.cc": ["src/quant/int8/quant_params.cc"],
    "src/quant/quantizer_test.cc": [
        "src/quant/int8/quantized_layer.cc", "src/quant/layer/calibration_stream.cc",
        "src/quant/layer/float_layer.cc", "src/quant/msmodelslim/calibration_linear.cc",
        "src/quant/msmodelslim/samplewise.cc"],
    "src/quant/quantizer_recipe_test.cc": [
        "src/quant/layer/built_linear.cc", "src/quant/layer/float_model.cc",
        "src/quant/layer/layer_stream.cc",
        "src/quant/layerwise/layerwise.cc"],
    "src/quant/ranks_test.cc": ["src/quant/layer/shared_linear.cc"],
    "src/quant/output/report_data_test.cc": ["src/quant/output/report_file.cc"],
    "src/eval/layer_noise_test.cc": ["src/eval/basis.cc"],
    "src/eval/summary_test.cc": ["src/eval/bootstrap.cc"],
    "src/eval/compare_test.cc": ["src/eval/tensor_rows.cc"],
    "src/eval/report_page_test.cc": ["src/eval/report_parts.cc"],
    "src/server/completions_test.cc": ["src/server/api/answer_completions.cc",
                                       "src/server/api/prompts.cc"],
    "src/server/chat_test.cc": ["src/server/api/answer.cc", "src/server/api/answer_chat.cc"],
    "src/server/api/protocol_test.cc": ["src/server/api/protocol_chat.cc",
                                        "src/server/api/protocol_completions.cc"],
    "src/server/server_test.cc": [
        "src/server/api/endpoints.cc", "src/server/http/auth.cc", "src/server/http/listener.cc",
        "src/server/metrics/process_figures.cc"],
    "src/server/hostile_test.cc": ["src/server/http/connection.cc", "src/server/http/exchange.cc",
                                   "src/server/http/http_server.cc"],
}


@functools.cache
def files() -> list[str]:
    """All files of the tree but what is built or fetched."""
    skipped = {".git", ".venv", ".cache", "target", "__pycache__"}
    found = []
    for top in ROOT.iterdir():
        if top.name in {*skipped, "build"}:
            continue
        for path in [top, *(top.rglob("*") if top.is_dir() else [])]:
            if not skipped.intersection(path.parts[len(ROOT.parts):]):
                found.append("/" + str(path.relative_to(ROOT)))
    return found


def spellings(name: str) -> list[str]:
    """What a name with {a,b} stands for."""
    parts = re.split(r"\{([^}]*)\}", name)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def exists(name: str, beside: str = "") -> bool:
    """Whether a file or folder of that name, or the end of its path, is there. * and <set> stand
    for anything in one folder."""
    pattern = re.escape(name.strip("/"))
    pattern = re.sub(r"<\w+>|\\\*", "[^/]*", pattern)
    return any(re.search(f"/{pattern}$", file) for file in files())


def named_files(text: str):
    """Names in backticks that can only be files of this tree: with a folder of it in front, or of a
    source file."""
    folders = "src|tests|docs|cmake|tools|bench|fuzz|recipes|scripts|models|deploy|launch"
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for word in quoted.split():
            word = word.rstrip(",.:")
            if re.fullmatch(rf"({folders})/[\w./*{{}},<>-]*", word):
                yield word
            elif re.fullmatch(r"[A-Za-z*<][\w./*<>-]*[\w>}]\.(\{[\w,]+\}|cc|h|inl)", word):
                yield word


def documents() -> list[pathlib.Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
            ROOT / "tools/README.md", ROOT / "fuzz/README.md", ROOT / "tests/golden/README.md"]


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def names(document: pathlib.Path) -> list[str]:
    text = document.read_text()
    where = document.relative_to(ROOT)
    wrong = []
    for name in named_files(text):
        if not all(exists(n) for n in spellings(name)):
            wrong.append(f"{where}: there is no {name}")
    for target in re.findall(r"\]\((?!https?:)([^)\s]*)\)", text):
        path, _, place = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            wrong.append(f"{where}: a link to {target}, which is not there")
        elif place and place not in [anchor(h) for h in
                                     re.findall(r"^#+ (.*)$", file.read_text(), re.M)]:
            wrong.append(f"{where}: a link to {target}, which has no such heading")
    return wrong


def tests() -> list[str]:
    wrong = []
    elsewhere = {file: test for test, of in TESTED_BY.items() for file in of}
    for test, of in TESTED_BY.items():
        wrong += [f"docs_test.py: there is no {f}" for f in [test, *of] if not (ROOT / f).exists()]
    for path in sorted((ROOT / "src").rglob("*.cc")):
        file = str(path.relative_to(ROOT))
        if file.endswith("_test.cc"):
            continue
        own = path.with_name(path.stem + "_test.cc").exists()
        if own and file in elsewhere:
            wrong.append(f"{file}: has a test now; take it off the list in docs_test.py")
        if not own and file not in elsewhere:
            wrong.append(f"{file}: no {path.stem}_test.cc; if another test covers it, say so in "
                         "tests/docs_test.py")
    return wrong


def lengths() -> list[str]:
    wrong = []
    for folder in ["src", "fuzz", "tests", "tools", "launch"]:
        for path in sorted((ROOT / folder).rglob("*")):
            file = str(path.relative_to(ROOT))
            if path.suffix in {".cc", ".h", ".inl", ".py", ".rs"} and file not in LONG:
                lines = len(path.read_text().splitlines())
                if lines > LONGEST:
                    wrong.append(f"{file}: {lines} lines, at most {LONGEST}")
    return wrong


def comments() -> list[str]:
    """Sections that comments send a reader to: docs/x.md, "Section", or the other way round."""
    wrong = []
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in {".cc", ".h", ".inl"}:
            continue
        text = re.sub(r"\n\s*//", "", path.read_text())
        for document in re.findall(r"docs/\w+\.md", text):
            if not (ROOT / document).exists():
                wrong.append(f"{path.relative_to(ROOT)}: there is no {document}")
        found = re.findall(r'(docs/\w+\.md), "([^"]+)"', text)
        found += [(d, s) for s, d in re.findall(r'"([^"\n]+)" (?:in|of) (docs/\w+\.md)', text)]
        for document, section in found:
            there = (ROOT / document).read_text()
            if not re.search(rf"^#+ {re.escape(section)}|\*\*{re.escape(section)}", there, re.M):
                wrong.append(f'{path.relative_to(ROOT)}: {document} has no section "{section}"')
    return wrong


def count_of(pattern: str, document: str) -> list[int]:
    text = " ".join((ROOT / document).read_text().split())
    return [int(n) for n in re.findall(pattern, text)]


def counts() -> list[str]:
    wrong = []
    texts = len((ROOT / "models/calibration/calib.jsonl").read_text().splitlines())
    cases = len(list((ROOT / "tests/golden").glob("*_*/out_*")))
    for pattern, document, count in [
            (r"built-in set has (\d+) texts", "docs/quantize.md", texts),
            (r"built-in texts \((\d+),", "docs/accuracy.md", texts),
            (r"all (\d+) built-in texts", "docs/accuracy.md", texts),
            (r"compares (\d+) cases", "docs/quantization.md", cases)]:
        found = count_of(pattern, document)
        if found != [count]:
            wrong.append(f"{document}: '{pattern}' gives {found}, counted {count}")
    return wrong


def order() -> list[str]:
    """The levels and floors that documents name are those of CMakeLists.txt."""
    levels = levels_test.order()
    wrong = []
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    if ", ".join(levels) not in " ".join(contributing.split()):
        wrong.append(f"CONTRIBUTING.md: the levels are {', '.join(levels)}")
    architecture = (ROOT / "docs/architecture.md").read_text()
    for level, floors in levels.items():
        if floors := [f for f in floors if f]:
            documented = re.findall(rf"^\| `{level}/(\w+)` \|", architecture, re.M)
            if documented != floors:
                wrong.append(f"docs/architecture.md: the floors of {level} are {floors}, "
                             f"not {documented}")
    return wrong


def main() -> int:
    wrong = [w for document in documents() for w in names(document)]
    wrong += comments() + tests() + lengths() + counts() + order()
    print("\n".join(wrong) or "the documents are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
