"""Sizes and hashes of a folder's files: what tells a whole checkpoint from a damaged one.

``manifest.json`` is written after all other files, so a folder without one is not whole either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..whole_file import write_whole
from .folder import MANIFEST

_CHUNK = 1 << 22  # bytes


def describe_files(root: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """``{path below root: {"bytes": size, "sha256": hash}}``."""
    return {
        file.relative_to(root).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(files)
    }


def differing_files(root: Path, described: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is no longer as :func:`describe_files` found it, a phrase a file; nothing: all is whole."""
    problems = []
    for name, description in described.items():
        file = root / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != description["bytes"]:
            problems.append(f"{name} has {file.stat().st_size} bytes, not {description['bytes']}")
        elif sha256(file) != description["sha256"]:
            problems.append(f"{name} has other bytes than were written")
    return problems


def write_manifest(folder: Path) -> None:
    """Describe all files of a folder, its last act."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST]
    write_whole(folder / MANIFEST, json.dumps({"files": describe_files(folder, files)}, indent=1) + "\n")


def damage(folder: Path) -> list[str]:
    """Why a folder is not what its manifest says, a phrase a file; nothing: it is whole."""
    file = folder / MANIFEST
    if not file.is_file():
        return [f"it has no {MANIFEST}"]
    try:
        described = json.loads(file.read_text(encoding="utf-8"))["files"]
        return differing_files(folder, described)
    except (ValueError, KeyError, TypeError, AttributeError):  # UnicodeDecodeError, JSONDecodeError are ValueErrors
        return [f"its {MANIFEST} cannot be read"]


def sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
