"""Finds where a run begins: afresh, or at a checkpoint that is whole.

``--resume auto`` suits a job that may be killed at any time, as it is always the same command: it starts a run, goes on
with it, finishes its export, or finds that all is done. Never does it start afresh over what is there.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, FolderTakenError, NotFoundError
from .arguments import ModelArguments, PretrainingArguments
from .checkpoints import put_back_replaced, set_aside
from .contract import check_contract, read_contract
from .finished import read_finished
from .folder import MANIFEST, RunFolder
from .manifest import damage

logger = logging.getLogger(__name__)

AUTO, LAST = "auto", "last"
_STATE = "trainer_state.json"  # transformers' name
_NO, _LAST = (None, "", "False", "false"), (LAST, "True", "true")


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run begins.

    Args:
        checkpoint: what it goes on from; ``None``: the beginning, or, of a finished run without checkpoints, its end.
        damaged: newer checkpoints that are not whole.
    """

    checkpoint: Path | None = None
    damaged: tuple[Path, ...] = ()

    @property
    def step(self) -> int:
        """Optimizer steps that were done before."""
        if self.checkpoint is None:
            return 0
        return int(json.loads((self.checkpoint / _STATE).read_text(encoding="utf-8"))["global_step"])

    def set_damaged_aside(self) -> None:
        """Rename damaged checkpoints, so that they count for nothing."""
        for path in self.damaged:
            logger.warning("%s is kept as %s; delete it when you like.", path, set_aside(path, "damaged").name)


def find_start(resume: str | None, run: str | Path, trust: bool = False) -> Start:
    """What ``--resume`` means in this run folder; changes nothing, but puts back what was about to be replaced.

    Args:
        resume: ``auto``, ``last``, a checkpoint's path, or nothing.
        run: the run folder, there or not.
        trust: take checkpoints that have no manifest for whole (``--allow_changes``).

    Raises:
        FolderTakenError: nothing is to be resumed, but the folder holds a run.
        NotFoundError: there is no such checkpoint; names those there are.
        CheckpointError: no checkpoint is whole, or not the one that was named; says what is wrong with each.
    """
    folder = RunFolder(Path(run))
    put_back_replaced(run)
    checkpoints = folder.checkpoints()
    if resume in _NO:
        if checkpoints or folder.finished:
            held = checkpoints[-1].name if checkpoints else folder.encoder.name
            raise FolderTakenError(
                f"{run} already holds a run ({held}). Go on with it by --resume auto, or choose another --output_dir."
            )
        return Start()
    if resume not in (AUTO, *_LAST):
        return Start(_named(Path(resume), trust))
    if not checkpoints:
        if resume != AUTO and not folder.finished:
            raise NotFoundError(
                f"nothing to resume: {run} holds no checkpoint-N folder. --resume auto starts where there is none."
            )
        return Start()
    return _newest(checkpoints, trust)


def _newest(checkpoints: list[Path], trust: bool) -> Start:
    damage: dict[Path, Any] = {}
    for path in reversed(checkpoints):
        problems = _problems(path, trust)
        if not problems:
            for damaged, what in damage.items():
                logger.warning("%s is damaged: %s. Going on from %s.", damaged, "; ".join(what), path.name)
            return Start(path, tuple(damage))
        damage[path] = problems
    listed = "; ".join(f"{path.name}: {', '.join(problems)}" for path, problems in damage.items())
    raise CheckpointError(
        f"no checkpoint of {checkpoints[0].parent} is whole ({listed}). Choose another --output_dir to start afresh."
        + _about_manifests(damage)
    )


def _named(path: Path, trust: bool) -> Path:
    if not (path / _STATE).is_file():
        names = [folder.name for folder in RunFolder(path.parent).checkpoints()]
        raise NotFoundError(
            f"{path} is no checkpoint (it has no {_STATE})."
            + (f" There are: {', '.join(names)} in {path.parent}." if names else "")
        )
    problems = _problems(path, trust)
    if problems:
        raise CheckpointError(
            f"{path} is damaged: {'; '.join(problems)}. --resume auto goes on from the newest whole checkpoint."
            + _about_manifests([path])
        )
    return path


def _problems(path: Path, trust: bool) -> list[str]:
    problems = damage(path)
    if trust and not (path / MANIFEST).is_file():
        logger.warning("%s: %s; it is taken for whole (--allow_changes).", path, problems[0])
        return []
    return problems


def _about_manifests(checkpoints: Iterable[Path]) -> str:
    if all((path / MANIFEST).is_file() for path in checkpoints):
        return ""
    return (
        " One without a manifest was written by an older version of sp-hf, or is not whole; if you know that it is,"
        " --allow_changes takes it."
    )


def adopt_recorded(start: Start, model_args: ModelArguments, args: PretrainingArguments, streaming: bool) -> None:
    """Take from the first half what was left open, and what must stay although it does not matter where it runs.

    The commit of a Hub encoder is what its branch was then; the readers of a stream are as many as had shared it out.
    """
    recorded = None if start.checkpoint is None else read_contract(start.checkpoint)
    if recorded is None:
        return
    if model_args.encoder_revision is None and recorded.get("encoder") == model_args.encoder:
        model_args.encoder_revision = recorded.get("encoder_revision")
    readers = recorded.get("stream_workers")
    if streaming and readers is not None and max(1, args.dataloader_num_workers) != readers:
        logger.info("the stream keeps its %d readers (--dataloader_num_workers).", readers)
        args.dataloader_num_workers = readers


def what_is_left(
    start: Start, run: RunFolder, contract: dict[str, Any], allow_changes: bool
) -> tuple[int | None, list[str]]:
    """What a run that begins there still has to do, and in what it differs from what it was.

    Returns:
        At which step all is done, its results whole, or ``None``: something is left; and the differences.

    Raises:
        InputError: the run is not the one that is to be resumed.
        CheckpointError: without checkpoints it cannot be.
    """
    finished = read_finished(run)
    if start.checkpoint is not None:
        changes = check_contract(read_contract(start.checkpoint), contract, start.checkpoint, allow_changes)
        whole = finished is not None and finished["whole"] and finished["step"] == start.step
        return (start.step if whole and start.step >= contract["steps"] else None), changes
    if not run.finished:
        return None, []
    if finished is not None:
        check_contract(finished["contract"], contract, run.path, allow_changes)
        if finished["whole"] and finished["step"] >= contract["steps"]:
            return finished["step"], []
    raise CheckpointError(
        f"{run.path} holds an encoder of a run that kept no checkpoint to go on from: choose another --output_dir."
    )
