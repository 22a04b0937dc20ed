"""The record of a finished run: at which step ``encoder/`` and ``pretraining/`` were written, whole."""

from __future__ import annotations

import json
from typing import Any

from ..whole_file import write_whole
from .folder import RunFolder
from .manifest import describe_files, differing_files


def write_finished(run: RunFolder, step: int, contract: dict[str, Any]) -> None:
    """Record the results of a run, its last act."""
    files = [path for folder in (run.encoder, run.pretraining) for path in folder.rglob("*") if path.is_file()]
    record = {"step": step, "contract": contract, "files": describe_files(run.path, files)}
    write_whole(run.finished_record, json.dumps(record, indent=1) + "\n")


def read_finished(run: RunFolder) -> dict[str, Any] | None:
    """The record, with ``whole``: whether the files are as it says; ``None``: there is none, or it can't be read."""
    try:
        record = json.loads(run.finished_record.read_text(encoding="utf-8"))
        return {**record, "whole": not differing_files(run.path, record["files"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
