"""Frozen features on disk: computed once for a model, a sample of a split and a transform, memory-mapped afterwards.

An entry is a folder of ``.npy`` arrays and a ``meta.json``, named by a digest of everything the features depend on: the
parts that who asks names, and the versions of this package and of those that make features. It is written under another
name and renamed when whole, so that neither an interrupted run nor two at once leave half an entry. ``meta.json`` holds
the arrays' sizes, by which an entry that was damaged later is told; it is named in a warning and made again.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.constants import HF_HOME

logger = logging.getLogger(__name__)

FORMAT = 2  # raise it when what is computed of the same parts changes
_META = "meta.json"
_PACKAGES = ("sp-hf", "torch", "transformers", "pillow")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


def default_cache_dir() -> Path:
    """``$SP_HF_CACHE``, or ``sp_hf`` in the Hugging Face home."""
    return Path(os.environ.get("SP_HF_CACHE") or Path(HF_HOME) / "sp_hf" / "features")


class FeatureCache:
    """Arrays by key.

    Args:
        directory: made when first written to; ``None``: nothing is kept, everything is computed.

    Attributes:
        hits, misses: how often an entry was there, and not.
    """

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self.directory = None if directory is None else Path(directory)
        self.hits = self.misses = 0

    def get(
        self, parts: Mapping[str, Any] | None, compute: Callable[[Path | None], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of an entry, read-only; computed and kept if need be.

        Args:
            parts: everything the arrays depend on; ``None`` where that is not known (nothing is kept then).
            compute: called with a folder into which it may write large arrays itself (``None``: no folder), it returns
                the arrays by name.
        """
        if self.directory is None or parts is None:
            return dict(compute(None))
        parts = {**parts, "format": FORMAT, "versions": _versions()}
        entry = self.directory / _digest(parts)
        arrays = _read_or_discard(entry)
        if arrays is not None:
            self.hits += 1
            return arrays
        self.misses += 1
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".partial", dir=self.directory))
        try:
            for name, array in compute(partial).items():
                if not (partial / f"{name}.npy").is_file():
                    np.save(partial / f"{name}.npy", array)
            sizes = {file.name: file.stat().st_size for file in partial.glob("*.npy")}
            meta = {"parts": parts, "files": sizes}
            (partial / _META).write_text(json.dumps(meta, indent=2, default=str) + "\n", encoding="utf-8")
            try:
                os.rename(partial, entry)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                return _read(partial)  # another process was faster; maps outlive the folder
            return _read(entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@functools.cache
def _versions() -> list[str]:
    return [importlib.metadata.version(name) for name in _PACKAGES]


class _DamagedEntry(Exception):
    """What is wrong with it."""


def _read_or_discard(entry: Path) -> dict[str, np.ndarray] | None:
    """The arrays; ``None`` where there is no entry, or a damaged one, which is put away."""
    if not (entry / _META).is_file():
        return None
    try:
        return _read(entry)
    except _DamagedEntry as damage:
        logger.warning("the cached features in %s are damaged (%s): made again", entry, damage)
    quarantine = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".damaged", dir=entry.parent))
    try:
        os.rename(entry, quarantine / entry.name)
    except FileNotFoundError:
        pass  # another process was faster
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)
    return None


def _read(entry: Path) -> dict[str, np.ndarray]:
    try:
        sizes = json.loads((entry / _META).read_text(encoding="utf-8"))["files"]
        for name, size in sizes.items():
            on_disk = (entry / name).stat().st_size
            if on_disk != size:
                raise _DamagedEntry(f"{name} has {on_disk} of {size} bytes")
        return {Path(name).stem: np.load(entry / name, mmap_mode="r", allow_pickle=False) for name in sorted(sizes)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedEntry(f"{type(error).__name__}: {error}") from error


def _digest(parts: Mapping[str, object]) -> str:
    text = json.dumps(dict(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
