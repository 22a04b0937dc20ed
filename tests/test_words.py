"""Words of the code: a variable is called after what it holds."""

from __future__ import annotations

import ast
from pathlib import Path

import sp_hf

PACKAGE = Path(sp_hf.__file__).parent
NO_NOUNS = {"there", "found", "told"}


def test_variables_are_called_after_what_they_hold() -> None:
    places = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = {node.arg} if isinstance(node, ast.arg) else set()
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names = {node.id}
            if names & NO_NOUNS:
                places.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {names.pop()}")
    assert not places
