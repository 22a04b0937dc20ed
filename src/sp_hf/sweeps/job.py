"""One process of a sweep, from the file that the sweep wrote for it: which function, and its arguments."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.evaluate import evaluate
from ..evaluation.results import Results
from ..run.recipe import resolve_run
from ..run.resume import AUTO
from ..training.pretrain import run_pretraining
from ..training.result import PretrainingResult


def run_job(file: str | os.PathLike[str]) -> PretrainingResult | Results:
    """Run one process of a sweep; a training run that was interrupted goes on.

    Raises:
        ValueError, OSError, ...: what the function raises.
    """
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    options = job["options"]
    if job["call"] == "evaluate":
        return evaluate(**options, command=evaluate_command(options))
    recipe = options.pop("recipe")
    return run_pretraining(*resolve_run({**options, "resume": AUTO}, recipe))


def evaluate_command(options: Mapping[str, Any]) -> str:
    """The command line that does the same, for people to read and repeat."""
    words = ["sp-hf", "evaluate", *(f"{name}={place}" for name, place in options["models"].items())]
    for name, value in options.items():
        if name == "models" or value is None or value is False:
            continue
        words += [f"--{name}", *map(str, () if value is True else value if isinstance(value, list) else [value])]
    return shlex.join(words)
