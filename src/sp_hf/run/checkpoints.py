"""Checkpoints that are whole or absent.

A checkpoint is written into ``.incomplete-checkpoint-N`` beside its final place, its manifest last, flushed to disk,
and renamed. So a folder named ``checkpoint-N`` is whole whenever the process was killed; what disks and people do to it
later is told by the manifest.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from torch import nn

from ..boundary import NO_ROOM
from ..errors import DiskFullError
from .folder import REPLACED_PREFIX, RunFolder
from .manifest import damage


def last_checkpoint(run: str | Path) -> Path | None:
    """The newest checkpoint of a run folder, whole or damaged, or ``None``."""
    return next(reversed(RunFolder(Path(run)).checkpoints()), None)


def newest_whole(run: str | Path) -> Path | None:
    """The newest checkpoint that is as its manifest says, or ``None``; reads every byte of those that it looks at."""
    return next((path for path in reversed(RunFolder(Path(run)).checkpoints()) if not damage(path)), None)


def rotate(run: str | Path, keep: int | None, step: int) -> None:
    """Delete the oldest checkpoints up to ``step`` until ``keep`` of them are left; ``None``: keep all.

    Later ones, of a run that was resumed from an older checkpoint, are left alone until they are written anew.
    """
    if keep is None or keep < 1:
        return
    folder = RunFolder(Path(run))
    up_to_now = [path for path in folder.checkpoints() if folder.step_of(path) <= step]
    for path in up_to_now[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def set_aside(checkpoint: Path, why: str) -> Path:
    """Rename a checkpoint to ``WHY-checkpoint-N``, so that it is neither resumed from nor counted; the new path."""
    place = checkpoint.with_name(f"{why}-{checkpoint.name}")
    shutil.rmtree(place, ignore_errors=True)
    checkpoint.rename(place)
    return place


def publish(staged: Path, final: Path) -> None:
    """Flush a staged folder to disk and move it to its place in one step."""
    for path in staged.rglob("*"):
        if path.is_file():
            _fsync(path)
    if final.exists():
        discarded = final.with_name(f"{REPLACED_PREFIX}{final.name}")
        shutil.rmtree(discarded, ignore_errors=True)
        final.rename(discarded)
        staged.rename(final)
        shutil.rmtree(discarded, ignore_errors=True)
    else:
        staged.rename(final)
    _fsync(final.parent)


def put_back_replaced(run: str | Path) -> None:
    """Put back what a process was about to replace when it was killed: it is the only whole one."""
    for path in RunFolder(Path(run)).leftovers():
        replaced = path.with_name(path.name.removeprefix(REPLACED_PREFIX))
        if path.name.startswith(REPLACED_PREFIX) and not replaced.exists():
            path.rename(replaced)


def remove_leftovers(run: str | Path) -> None:
    """Delete what killed processes left half-written; after :func:`put_back_replaced`."""
    for path in RunFolder(Path(run)).leftovers():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def checkpoint_bytes(model: nn.Module) -> int:
    """Size of one checkpoint: every weight and buffer, and two Adam moments for each trained weight."""
    state = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return state + 8 * sum(p.numel() for p in model.parameters() if p.requires_grad)


def check_disk(run: str | Path, model: nn.Module) -> None:
    """Refuse to start a run whose first checkpoint cannot be written.

    Raises:
        DiskFullError: less is free than two checkpoints take (an old one is only deleted after a new one is whole).
    """
    needed, free = 2 * checkpoint_bytes(model), shutil.disk_usage(run).free
    if free < needed:
        raise DiskFullError(
            f"{run} has {free / 1e6:.0f} MB free but two checkpoints of this model take {needed / 1e6:.0f} MB;"
            " free some space or choose another --output_dir.",
        )


def as_disk_full(error: Exception, run: str | Path) -> DiskFullError | None:
    """``error`` as a :class:`DiskFullError` if a full disk (or a quota) is what it was."""
    code = getattr(error, "errno", None)
    text = str(error)
    full = code in NO_ROOM or "No space left" in text or "File too large" in text
    if not full and "PytorchStreamWriter" in text:  # torch.save says only that a write failed
        full = True
    if not full:
        return None
    kept = last_checkpoint(run)
    rest = f"the last whole checkpoint is {kept}" if kept else "there is no whole checkpoint yet"
    return DiskFullError(
        f"could not write a checkpoint into {run}: no room ({text}). Nothing half-written was kept; {rest}."
        " Free some space and go on with --resume auto.",
    )


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
