"""What a pretraining run came to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..run.folder import RunFolder


@dataclasses.dataclass
class PretrainingResult:
    """What a run came to. It is a path, that of the run folder: functions that take a run take it as it is.

    Attributes:
        output_dir: the run folder.
        step: optimizer steps done.
        stopped_by: the signal that ended it early, if one did.
        finished: whether all steps were done; not so either where a collapse ended it.
        already_done: the run had been finished before, and nothing was changed.
        checked: with ``check=True``: it could begin at ``step``, and nothing was written.
        pushed: the finished run's address on the Hub, with ``--push_to_hub``.
        push_error: why it could not be pushed.

    Example:
        >>> from sp_hf import PretrainingResult
        >>> result = PretrainingResult(Path("runs/mine"), step=100, stopped_by=None)
        >>> Path(result) == result.output_dir
        True
        >>> result.encoder.as_posix()  # AutoModel.from_pretrained(result.encoder) loads it
        'runs/mine/encoder'
    """

    output_dir: Path
    step: int
    stopped_by: int | None
    finished: bool = True
    already_done: bool = False
    checked: bool = False
    pushed: str | None = None
    push_error: str | None = None

    def __fspath__(self) -> str:
        return str(self.output_dir)

    @property
    def encoder(self) -> Path:
        """The folder of the encoder as its stock class."""
        return RunFolder(self.output_dir).encoder
