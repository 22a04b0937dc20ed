"""Records of a run (its recipe, its environment, its pictures) that a resumed run does not write over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .folder import RunFolder


def write_record(path: Path, write: Callable[[Path], None], step: int) -> None:
    """Write a record whole; one that was there and differs is kept as that of the run up to ``step``.

    Args:
        path: the record's place in the run folder.
        write: writes it to the path it is given; or nothing, and then what was there stays.
        step: that the run goes on from; 0: it starts afresh, and nothing is kept.
    """
    run = RunFolder(path.parent)
    staged, former = run.staged(path.name), run.former(path, step)
    write(staged)
    if not staged.exists():
        return
    differs = path.is_file() and path.read_bytes() != staged.read_bytes()
    if step > 0 and differs and not former.exists():  # one that is there was of the steps before; this one made none
        os.replace(path, former)
    os.replace(staged, path)
