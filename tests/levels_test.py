"""Includes go one way: a level, and a floor inside it, includes only itself and those above it in the
list of CMakeLists.txt (octet_level), which docs/architecture.md repeats for readers; and no two files
include each other in a circle."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# quant and engine meet at the checkpoint and at model; they do not know each other.
FORBIDDEN = {("engine", "quant"), ("server", "quant"), ("server", "eval")}
ROOMS = 14  # files (x.h and x.cc count as one) in a folder that has floors, or is one


def order() -> dict[str, dict[str, int]]:
    """{level: {floor: rank}} in order; "" is the level's own folder, above its floors."""
    levels = {}
    text = (ROOT / "CMakeLists.txt").read_text()
    for name, rest in re.findall(r"^octet_level\((\w+)\s+([^)]*)\)", text, re.M):
        floors = rest.split("FLOORS")[1].split() if "FLOORS" in rest else []
        levels[name] = {f: i for i, group in enumerate(floors) for f in group.split("|")}
        levels[name][""] = len(floors)
    return levels


def place(path: str, levels) -> tuple[str, str]:
    """Level and floor of "src/quant/int8/encode.h"; folders that are no floors belong to the level."""
    parts = path.split("/")
    return parts[1], parts[2] if len(parts) > 3 and parts[2] in levels[parts[1]] else ""


def circles(graph: dict[str, set[str]]) -> list[str]:
    found, done, way = [], set(), []

    def visit(node):
        if node in way:
            found.append("circle: " + " -> ".join(way[way.index(node):] + [node]))
            return
        if node in done:
            return
        way.append(node)
        for after in sorted(graph.get(node, ())):
            visit(after)
        way.pop()
        done.add(node)

    for node in sorted(graph):
        visit(node)
    return found


def main() -> int:
    levels = order()
    names = list(levels)
    wrong, graph, rooms = [], {}, {}
    documented = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/architecture.md").read_text(), re.M)
    if documented[:len(names)] != names:
        wrong.append(f"docs/architecture.md: the table of levels is not that of CMakeLists.txt: {names}")
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in {".h", ".cc", ".inl"}:
            continue
        file = str(path.relative_to(ROOT))
        level, floor = place(file, levels)
        if len(levels[level]) > 1:
            if len(file.split("/")) > 3 and not floor:
                wrong.append(f"{file}: its folder is no floor of {level} in CMakeLists.txt")
            room = re.sub(r"(_test|_testing)?\.\w+$", "", path.name)
            rooms.setdefault(str(path.parent.relative_to(ROOT)), set()).add(room)
        for target in re.findall(r'#include "(src/[\w/.]+)"', path.read_text()):
            other, other_floor = place(target, levels)
            if (names.index(other) > names.index(level) or (level, other) in FORBIDDEN
                    or (other == level and other_floor != floor
                        and levels[level][other_floor] >= levels[level][floor])):
                wrong.append(f"{file}: includes {target}")
            if not file.endswith(".cc"):
                graph.setdefault(file, set()).add(target)
    wrong += circles(graph)
    wrong += [f"{folder}: {len(r)} files, at most {ROOMS}" for folder, r in rooms.items() if len(r) > ROOMS]
    print("\n".join(wrong) or "levels are in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
