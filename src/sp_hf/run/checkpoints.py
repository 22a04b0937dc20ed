"""Checkpoints that are whole or absent.

A checkpoint is written into ``.incomplete-checkpoint-N`` beside its final place, flushed to disk, and renamed. So a
folder named ``checkpoint-N`` is always whole, whenever the process was killed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from torch import nn

from ..boundary import NO_ROOM
from ..errors import DiskFullError, NotFoundError
from .folder import STAGING_PREFIX, RunFolder


def last_checkpoint(run: str | Path) -> Path | None:
    """The newest whole checkpoint of a run folder, or ``None``."""
    return next(reversed(RunFolder(Path(run)).checkpoints()), None)


def resolve_checkpoint(resume: str | None, run: str | Path) -> Path | None:
    """The checkpoint that ``--resume_from_checkpoint`` means: ``last``, a path, or nothing.

    Raises:
        FileNotFoundError: there is no such checkpoint; names those there are.
    """
    if resume is None or resume in ("", "False", "false"):
        return None
    if resume in ("last", "True", "true"):
        last = last_checkpoint(run)
        if last is None:
            raise NotFoundError(f"nothing to resume: {run} holds no whole checkpoint-N folder.")
        return last
    path = Path(resume)
    if not (path / "trainer_state.json").is_file():
        there = [folder.name for folder in RunFolder(path.parent).checkpoints()]
        raise NotFoundError(
            f"{path} is no checkpoint (it has no trainer_state.json)."
            + (f" There are: {', '.join(there)} in {path.parent}." if there else "")
        )
    return path


def publish(staged: Path, final: Path) -> None:
    """Flush a staged checkpoint to disk and move it to its place in one step."""
    for path in staged.rglob("*"):
        if path.is_file():
            _fsync(path)
    if final.exists():
        discarded = final.with_name(f"{STAGING_PREFIX}replaced-{final.name}")
        shutil.rmtree(discarded, ignore_errors=True)
        final.rename(discarded)
        staged.rename(final)
        shutil.rmtree(discarded, ignore_errors=True)
    else:
        staged.rename(final)
    _fsync(final.parent)


def remove_leftovers(run: str | Path) -> None:
    """Delete what killed processes left half-written."""
    for path in RunFolder(Path(run)).leftovers():
        shutil.rmtree(path, ignore_errors=True)


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
        " Free some space and go on with --resume_from_checkpoint last.",
    )


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
