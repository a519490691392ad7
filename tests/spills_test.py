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

# What must be there, by the set's name and the function's: so many multiplications at least, all unrolled.
EXPECTED = {
    "avx2": {"int8_tile<6": 12, "int8_tile<5": 10, "float_tile<.*6ul, 1ul>": 12, "scores_by_panels": 12, "values_by_panels": 12,
             "scores_as_stored": 8, "values_as_stored": 8},
    "avxvnni": {"int8_tile<6": 12, "int8_tile<5": 10},
    "avx512": {"int8_tile<6": 24, "int8_tile<5": 20, "float_tile<.*8ul, 1ul>": 24, "scores_by_panels": 24,
               "values_by_panels": 24, "scores_as_stored": 24, "values_as_stored": 24},
    "amx": {"one_row": 32},
}
MULTIPLY = re.compile(r"\bv?(?:pdpbusd|pmaddwd|fmadd231ps)|\btdpbusd")
STORE = re.compile(r"\bvmov\w+\s+%[yz]mm\d+,[^,]*\(%r[sb]p[,)]")

if shutil.which("objdump") is None:
    print("skipped: no objdump")
    sys.exit(77)
objects = {path.stem: path for path in Path(sys.argv[1]).glob("octet_kernels_a*.dir/**/*.o")}
objects = {name.removesuffix(".cc"): path for name, path in objects.items()}
wrong, looked = [], 0
for isa, tiles in EXPECTED.items():
    text = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", objects[isa]], capture_output=True, text=True, check=True).stdout
    functions = [f.split("\n", 1) for f in text.split("\n\n") if ">:" in f]
    for tile, multiplications in tiles.items():
        found = [(name, body) for name, body in functions if re.search(rf"\b{tile}", name)]
        full = [(name, body) for name, body in found if len(MULTIPLY.findall(body)) >= multiplications]
        if not full:
            wrong.append(f"{isa}: no {tile} with {multiplications} multiplications or more, of {len(found)} of that name")
        for name, body in full:
            looked += 1
            # Fewer may be numbers that the inner loop does not touch.
            if len(stores := STORE.findall(body)) >= max(multiplications, 8):
                wrong.append(f"{isa}: {name}: {len(stores)} vectors stored on the stack")
if wrong:
    sys.exit("\n".join(wrong))
print(f"{looked} register tiles keep their sums in registers")
