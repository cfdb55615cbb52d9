"""The house in numbers: rooms, floors, arrows, circles. ``python benchmarks/house.py [REVISION ...]``

A room is a folder of the package, or a module that stands in the top folder. An arrow is an import from one room
to another, wherever in a file it stands and also where it is for types only. A circle is a set of modules, or of rooms,
each of which imports the next ones until the first is reached again. Each revision is a column; the last one is the
tree as it is on disk.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

PACKAGE = "leakbound"
MOST_TOP_MODULES, MOST_LINES = 8, 400
Graph = dict[str, set[str]]


def modules(src: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for file in sorted((src / PACKAGE).rglob("*.py")):
        parts = file.relative_to(src).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(src: Path) -> Graph:
    """Module -> the modules of the package that it imports. A package's door counts as a module."""
    files = modules(src)
    graph: Graph = {name: set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names if alias.name in files}
            elif isinstance(node, ast.ImportFrom) and node.module in files:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= inner & set(files)
                if inner - set(files):
                    graph[name].add(node.module)
        graph[name].discard(name)
    return graph


def room(module: str) -> str:
    """Which room a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def rooms(graph: Graph) -> Graph:
    """Room -> the rooms that it imports; the facade, which imports nothing when it is read, is no room."""
    found: Graph = {}
    for name, targets in graph.items():
        if name != PACKAGE:
            others = {room(target) for target in targets if target != PACKAGE} - {room(name)}
            found.setdefault(room(name), set()).update(others)
    return found


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """The sets of nodes that reach each other: Tarjan's strongly connected components of two or more nodes."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in order:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], order[target])
        if low[node] == order[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(tuple(sorted(part)))

    sys.setrecursionlimit(10_000)
    for node in sorted(graph):
        if node not in order:
            visit(node)
    return sorted(found)


def floors(graph: Graph) -> int:
    """The number of nodes on the longest way downwards; of a graph with circles, 0."""
    if circles(graph):
        return 0
    depth: dict[str, int] = {}

    def below(node: str) -> int:
        if node not in depth:
            depth[node] = 1 + max((below(target) for target in graph.get(node, ())), default=0)
        return depth[node]

    return max(below(node) for node in graph)


def measured(src: Path) -> dict[str, object]:
    """What the house has, by name."""
    graph = imports(src)
    plan = rooms(graph)
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in modules(src).items()}
    longest = max(lines, key=lambda name: lines[name])
    return {
        "rooms": len(plan),
        "floors": floors(plan) or "circles",
        "arrows between rooms": sum(map(len, plan.values())),
        "circles of rooms": len(circles(plan)),
        "circles of modules": len(circles(graph)),
        "modules": len(graph),
        "modules in the top folder": sum(name.count(".") == 1 and file.name != "__init__.py"
                                         for name, file in modules(src).items()) + 1,
        "lines": sum(lines.values()),
        "longest file": f"{lines[longest]} ({longest.removeprefix(PACKAGE + '.')})",
    }  # fmt: skip


def columns(revisions: list[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """The revisions' numbers, then those of the tree on disk."""
    top = Path(__file__).resolve().parents[1]
    for revision in revisions:
        packed = subprocess.run(["git", "archive", revision, "src"], cwd=top, capture_output=True, check=True).stdout
        with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(packed)) as tar:
            tar.extractall(folder, filter="data")
            yield revision, measured(Path(folder) / "src")
    yield "now", measured(top / "src")


def main() -> None:
    found = list(columns(sys.argv[1:]))
    print(f"{'':28}" + "".join(f"{name[:24]:>28}" for name, _ in found))
    for key in found[0][1]:
        print(f"{key:28}" + "".join(f"{numbers[key]!s:>28}" for _, numbers in found))
    graph = imports(Path(__file__).resolve().parents[1] / "src")
    for circle in [*circles(rooms(graph)), *circles(graph)]:
        print("circle:", " ".join(circle))


if __name__ == "__main__":
    main()
