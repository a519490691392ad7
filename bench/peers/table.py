"""The figures as Markdown."""

import datetime
import os
import pathlib
import re
import statistics

TITLES = {
    "prefill512": "prefill 512, tokens/s", "prefill2048": "prefill 2048, tokens/s",
    "decode128": "decode after 128, tokens/s", "decode2048": "decode after 2048, tokens/s",
    "offline16": "16 sequences, output tokens/s", "http16": "16 over HTTP, output tokens/s",
    "start": "start to first token, s", "memory": "peak memory, MiB"}
SETS = ["f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
        "amx_int8", "amx_bf16"]


def processor(field: str) -> str:
    found = re.search(rf"^{field}\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else ""


def instruction_sets() -> set[str]:
    return set(processor("flags").split())


def machine(threads: int) -> dict:
    return {"date": f"{datetime.date.today()}", "cpu": processor("model name"), "cpus": os.cpu_count(),
            "sets": [s for s in SETS if s in instruction_sets()], "threads": threads}


def short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(values: list[float], ours: list[float]) -> str:
    if not values:
        return "–"
    text = " / ".join(short(v) for v in (min(values), statistics.median(values), max(values)))
    return f"{text} ({statistics.median(ours) / statistics.median(values):.2f})" if ours else text


def markdown(result: dict) -> str:
    """One table per shape. result: what bench/compare gathers and --out writes."""
    about = result["machine"]
    lines = [f"{about['date']}, {about['cpu']}, {about['cpus']} CPUs ({', '.join(about['sets'])}), "
             f"{about['threads']} threads", "",
             "Versions: " + ("; ".join(dict.fromkeys(v for v in result["versions"].values() if v)) or "none") + "."]
    for shape, peers in result["shapes"].items():
        measures = [m for m in TITLES if m in result["measures"]]
        rounds = max((len(v) for p in peers.values() for v in p["figures"].values()), default=0)
        lines += ["", f"### {shape}" + (f", layers: {result['layers']}" if result["layers"] else ""), "",
                  f"Minimum / median / maximum of {rounds} round{'s' if rounds != 1 else ''}; in brackets Octet's median divided by "
                  "the row's (time and memory: below 1 is in Octet's favour).", "",
                  "| | " + " | ".join(TITLES[m] for m in measures) + " | left out |", "|---" * (len(measures) + 2) + "|"]
        for name, peer in peers.items():
            ours = {} if name == "octet" else peers.get("octet", {}).get("figures", {})
            cells = [cell(peer["figures"].get(m, []), ours.get(m, [])) for m in measures]
            lines.append(f"| {peer['title']} | " + " | ".join(cells) + f" | {peer['reason']} |")
    return "\n".join(lines)
