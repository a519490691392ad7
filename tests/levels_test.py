"""A level includes only levels above it in the list of docs/architecture.md (and itself)."""

import pathlib
import re
import sys

LEVELS = ["base", "machine", "checkpoint", "text", "dist", "kernels", "model", "quant", "eval",
          "engine", "server", "cli"]
# quant and engine meet at the checkpoint and at model; they do not know each other.
FORBIDDEN = {("engine", "quant"), ("server", "quant"), ("server", "eval")}


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent / "src"
    wrong = []
    for path in sorted(root.rglob("*")):
        if path.suffix not in {".h", ".cc", ".inl"}:
            continue
        level = path.relative_to(root).parts[0]
        for target in re.findall(r'#include "src/(\w+)/', path.read_text()):
            if LEVELS.index(target) > LEVELS.index(level) or (level, target) in FORBIDDEN:
                wrong.append(f"{path.relative_to(root.parent)}: includes src/{target}/")
    print("\n".join(wrong) or "levels are in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
