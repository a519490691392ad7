"""Peak memory and time of `octet quantize` on a few layers in the shape of a large model.

    python tools/quantize_memory.py build/release/octet --shape llama-2-70b --layers 4 --tokens 2048 --dir DIR [-- FLAGS OF QUANTIZE]

Makes the checkpoint in DIR (random weights; about 9 GB for llama-2-70b), quantizes it on random tokens and
prints what the process held at most, in all (VmHWM) and sampled every tenth of a second: its own memory
(RssAnon), pages of mapped files (RssFile, RssShmem; the system takes those back when it needs them). DIR is
left with the checkpoint, for further runs, and without the result.
"""
import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import time


def held(pid):
    """Field -> bytes of /proc/PID/status."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {key: int(fields[key].split()[0]) * 1024 for key in ("VmHWM", "RssAnon", "RssFile", "RssShmem") if key in fields}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octet")
    parser.add_argument("--shape", default="llama-2-70b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=2048, help="calibration tokens, in samples of 512")
    parser.add_argument("--dir", type=pathlib.Path, required=True)
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    args = parser.parse_args(own.split())

    model, out = args.dir / f"{args.shape}-{args.layers}", args.dir / "out"
    if not model.exists():
        subprocess.run([args.octet, "bench", "make-model", "--shape", args.shape, "--layers", str(args.layers), "--out", model], check=True)
    vocab = json.loads((model / "config.json").read_text())["vocab_size"]
    chance = random.Random(1)
    samples = [[chance.randrange(vocab) for _ in range(min(512, args.tokens - at))] for at in range(0, args.tokens, 512)]
    tokens = args.dir / "tokens.json"
    tokens.write_text(json.dumps(samples))

    start = time.monotonic()
    run = subprocess.Popen([args.octet, "quantize", model, out, "--calib_tokens", tokens, "--overwrite", *flags.split()])
    most = {}
    while run.poll() is None:
        for key, value in held(run.pid).items():
            most[key] = max(most.get(key, 0), value)
        time.sleep(0.1)
    print(f"exit code {run.returncode}, {time.monotonic() - start:.0f} s;",
          ", ".join(f"{key} {value / 1e9:.2f} GB" for key, value in most.items()))
    shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
