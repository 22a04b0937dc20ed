"""What comes with the package: a pair of small encoders, one pretrained with SP and its control without, and an
untrained one of the same initialisation; their probes; what they score; photographs to ask them about.

``models/`` is written by ``scripts/flagship.py``; a folder a model::

    with-sp/    config.json  model.safetensors  preprocessor_config.json  README.md
    without-sp/
    untrained/  the same, without weights: built from its configuration and a seed
    with-sp.probes.safetensors  ...  what questions are read from its features by
    evidence.json    tiles right in each puzzle of a held-out benchmark, by model
    first.json       what each model answers to what the page asks at first

``examples/`` holds photographs free of rights (``SOURCES.md`` there), the first one of which the page shows at first.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from .score import Benchmark

WITH_SP, WITHOUT, UNTRAINED = "With SP", "Without SP", "Untrained"
FOLDERS = {WITH_SP: "with-sp", WITHOUT: "without-sp", UNTRAINED: "untrained"}
SEED = 0
"""Of the untrained encoder's weights, and of the first puzzle where none is chosen."""
EVIDENCE, FIRST = "evidence.json", "first.json"


def folder() -> Path:
    """Where the models are."""
    return Path(str(files(__package__) / "models"))


def models(root: Path | None = None) -> tuple[str, ...]:
    """``NAME=folder`` of each model, or nothing where none were shipped."""
    root = root or folder()
    return tuple(f"{name}={root / place}" for name, place in FOLDERS.items() if (root / place / "config.json").exists())


def evidence(root: Path | None = None) -> Benchmark | None:
    """The held-out benchmark of the shipped models."""
    content = _read((root or folder()) / EVIDENCE)
    return Benchmark.from_dict(content) if content else None


def first_answers(root: Path | None = None) -> dict[str, Any]:
    """About the first photograph, ``{"puzzle" | "where" | "patches": {model: answer}}``, and the ``seed`` of the puzzle
    and the ``boxes`` (:mod:`.typical`); empty without models."""
    return _read((root or folder()) / FIRST)


def photographs() -> list[Path]:
    """The examples, in the order of the page."""
    root = Path(str(files(__package__) / "examples"))
    return sorted(root.glob("*.jpg"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
