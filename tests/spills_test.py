#!/usr/bin/env python3
"""No register tile of a kernel keeps its sums on the stack: g++ does that to loops over arrays of vectors that are not
unrolled alike, and such a tile runs at half its speed. Reads the disassembly of the kernels' object files.

    tests/spills_test.py FOLDER_OF_OBJECTS      (needs objdump)
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

TILES = re.compile(r"int8_tile|float_tile|tiles_\d+x\d+|scores_as_stored|scores_by_panels|values_as_stored|values_by_panels")
MULTIPLY = re.compile(r"\bv?(?:pdpbusd|pmaddwd|fmadd231ps)|\btdpbusd")
STORE = re.compile(r"\bvmov\w+\s+%[yz]mm\d+,-?(?:0x[0-9a-f]+)?\(%r[sb]p\)")
ALLOWED = 2  # numbers that a loop does not change may wait there
LEAST = 8  # multiplications of a function that is looked at: a tile of several rows

if shutil.which("objdump") is None:
    print("skipped: no objdump")
    sys.exit(77)
objects = sorted(Path(sys.argv[1]).glob("octet_kernels_a*.dir/**/*.o"))
assert objects, f"no object files of kernels below {sys.argv[1]}"
looked, wrong = 0, []
for path in objects:
    text = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    for function in text.split("\n\n"):
        name = function.split("\n", 1)[0]
        if not TILES.search(name) or len(MULTIPLY.findall(function)) < LEAST:
            continue
        looked += 1
        if len(stores := STORE.findall(function)) > ALLOWED:
            wrong.append(f"{path.name}: {name}: {len(stores)} vectors stored on the stack")
assert looked >= 20, f"only {looked} tiles found: do the names still fit?"
if wrong:
    sys.exit("\n".join(wrong))
print(f"{looked} register tiles keep their sums in registers")
