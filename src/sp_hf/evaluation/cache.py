"""Frozen features on disk: computed once for a model, a sample of a split and a transform, memory-mapped afterwards.

An entry is a folder of ``.npy`` arrays and a ``meta.json``, named by a digest of everything the features depend on. It
is written under another name and renamed when whole, so that an interrupted run never leaves half an entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.constants import HF_HOME

_META = "meta.json"


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
        entry = self.directory / _digest(parts)
        if (entry / _META).is_file():
            self.hits += 1
            return _read(entry)
        self.misses += 1
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".partial", dir=self.directory))
        try:
            for name, array in compute(partial).items():
                if not (partial / f"{name}.npy").is_file():
                    np.save(partial / f"{name}.npy", array)
            (partial / _META).write_text(json.dumps(dict(parts), indent=2, default=str) + "\n", encoding="utf-8")
            with contextlib.suppress(FileExistsError, NotADirectoryError):  # another process was faster
                os.rename(partial, entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return _read(entry)


def _read(entry: Path) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(entry.glob("*.npy"))}


def _digest(parts: Mapping[str, object]) -> str:
    text = json.dumps(dict(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
