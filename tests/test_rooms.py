"""The rooms of the package (its top folders and loose modules) import one another one way: no circles.

Imports inside functions count, those for type checkers alone do not.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sp_hf

PACKAGE = Path(sp_hf.__file__).parent


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements, but those under ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(ast.Module([other], []))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from imports(node)


def imported_modules(node: ast.Import | ast.ImportFrom, folder: tuple[str, ...], package: str) -> Iterator[list[str]]:
    """What a statement imports, as parts of the path below the package; nothing of other packages.

    Args:
        node: the statement.
        folder: of its file, below the package.
        package: the package's name.
    """
    if isinstance(node, ast.Import):
        names = [alias.name.split(".") for alias in node.names]
    else:
        base = node.module.split(".") if node.module else []
        if node.level:
            base = [package, *folder[: len(folder) - node.level + 1], *base]
        names = [[*base, alias.name] for alias in node.names]
    yield from (name[1:] for name in names if name[0] == package)


def imports_between_rooms(package: Path) -> dict[str, dict[str, str]]:
    """{room: {room that it imports: the first place where}}."""
    rooms = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__init__"}
    found: dict[str, dict[str, str]] = {}
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package)
        room = place.parts[0].removesuffix(".py")
        if room == "__init__":
            continue  # the shop window: it may name everything, and no room may look through it
        for node in imports(ast.parse(file.read_text(encoding="utf-8"))):
            for name in imported_modules(node, place.parent.parts, package.name):
                other = name[0] if name else "__init__"
                other = other if other in rooms else "__init__"
                if other != room:
                    found.setdefault(room, {}).setdefault(other, f"{place}:{node.lineno}")
    return found


def circle(found: dict[str, dict[str, str]]) -> str | None:
    """A circle in words, one import a line; ``None`` where there is none."""
    try:
        graphlib.TopologicalSorter(found).prepare()
    except graphlib.CycleError as error:
        rooms = error.args[1][::-1]  # each room is followed by one that it imports
        return "\n".join(f"{a} -> {b} ({found[a][b]})" for a, b in zip(rooms, rooms[1:], strict=False))
    return None


def test_the_rooms_import_one_another_one_way():
    found = imports_between_rooms(PACKAGE)
    assert circle(found) is None, circle(found)
    assert {"encoders", "views", "objectives"} <= found["model"].keys()  # that anything was read at all


def test_no_room_imports_from_the_top_of_the_package():
    found = imports_between_rooms(PACKAGE)
    assert not [places["__init__"] for places in found.values() if "__init__" in places]


HOUSE = {
    "__init__.py": "from .kitchen.oven import bake",
    "front_door.py": "import os\nfrom .kitchen import oven",
    "kitchen/__init__.py": "",
    "kitchen/oven.py": "from .shelves.top import PAN\nfrom ..cellar.wine import bottle",
    "kitchen/shelves/top.py": "from ...cellar import wine",
    "cellar/wine.py": "import ast\nbottle = 1",
}


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("cellar/wine.py", "", None),
        ("cellar/wine.py", "from ..kitchen.oven import bake", "cellar/wine.py:1"),
        ("cellar/wine.py", "def pour():\n    from ..kitchen import oven", "cellar/wine.py:2"),
        ("cellar/wine.py", "class Bottle:\n    def pour(self):\n        import house.kitchen.oven", "cellar/wine.py:3"),
        ("cellar/wine.py", "try:\n    from house.front_door import key\nexcept ImportError:\n    key = None", ":2"),
        ("cellar/wine.py", "from .. import front_door", "cellar/wine.py:1"),
        ("cellar/deep/rack.py", "from ...kitchen.oven import bake", "cellar/deep/rack.py:1"),
        ("cellar/wine.py", "if TYPE_CHECKING:\n    from ..kitchen.oven import bake", None),
        ("cellar/wine.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from ..kitchen.oven import bake", ":4"),
        ("cellar/wine.py", "from .deep import rack\nfrom kitchen import sink", None),
    ],
)
def test_a_circle_is_found(tmp_path, file, text, expected):
    for name, content in {**HOUSE, file: text}.items():
        (tmp_path / "house" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "house" / name).write_text(content)
    said = circle(imports_between_rooms(tmp_path / "house"))
    assert said is None if expected is None else said is not None and expected in said, said
