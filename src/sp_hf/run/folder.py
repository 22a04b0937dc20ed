"""The layout of a run folder::

    encoder/              the encoder as its stock class: AutoModel.from_pretrained(".../encoder")
    pretraining/          the whole SPForPreTraining with heads, teacher and centres
    finished.json         how far the run got that these two are of, and their sizes and hashes
    checkpoint-N/         what --resume auto goes on from; its manifest.json is written last
    metrics.jsonl         every log line
    recipe.yaml           the resolved options
    environment.json      versions and hardware
    views.png             sample views with their boxes on their images
    curves.png            every loss over the run
    diagnosis.json        warnings of a run that does not learn, if there were any
    skipped_images.json   unreadable images, if there were any

A run that was resumed with other options, or elsewhere, keeps what it was before: ``recipe.until-step-N.yaml``, ...
Names that begin with ``.incomplete-`` are still being written, or what a killed process left; ``damaged-checkpoint-N``
is a checkpoint that was found not to be whole, ``diverged-checkpoint-N`` one whose weights were found to be of no use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

PRETRAINING = "pretraining"
MANIFEST = "manifest.json"
CONTRACT = "contract.json"
STAGING_PREFIX = ".incomplete-"
REPLACED_PREFIX = f"{STAGING_PREFIX}replaced-"
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


@contextlib.contextmanager
def new_folder(path: Path, keep: bool = True) -> Iterator[None]:
    """A context in which a folder exists; left by an error, or not to be kept, it is gone again unless written to."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        keep = False
        raise
    finally:
        for folder in [] if keep else new:
            with contextlib.suppress(OSError):  # somebody has written into it
                folder.rmdir()


def check_apart(path: Path, *datasets: object) -> None:
    """Refuse a run folder within a dataset's folder: its pictures would be images of it from the next start on.

    Raises:
        InputError: it lies in one of them.
    """
    for dataset in datasets:
        if not isinstance(dataset, (str, os.PathLike)) or not Path(dataset).expanduser().is_dir():
            continue
        folder = Path(dataset).expanduser().resolve()
        if folder in (path.resolve(), *path.resolve().parents):
            raise InputError(
                f"--output_dir {path} lies in the dataset's folder {folder}, and the pictures of a run would be images"
                " of it: choose an --output_dir elsewhere."
            )


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The places in a run folder, there or not."""

    path: Path

    @classmethod
    def of(cls, run: str | Path) -> RunFolder:
        """The places of a run folder, or of the one that holds a part (its ``pretraining/``, a checkpoint)."""
        path = Path(run)
        return cls(path.parent if path.name == PRETRAINING or _CHECKPOINT.match(path.name) else path)

    @property
    def encoder(self) -> Path:
        return self.path / "encoder"

    @property
    def pretraining(self) -> Path:
        return self.path / PRETRAINING

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def views(self) -> Path:
        return self.path / "views.png"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def diagnosis(self) -> Path:
        return self.path / "diagnosis.json"

    @property
    def skipped_images(self) -> Path:
        return self.path / "skipped_images.json"

    @property
    def finished_record(self) -> Path:
        return self.path / "finished.json"

    @property
    def readme(self) -> Path:
        """A model card of the user's own, if there is one."""
        return self.path / "README.md"

    def checkpoint(self, step: int) -> Path:
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Its checkpoints that are published, oldest first."""
        numbered = [(int(m[1]), p) for p in self.path.glob("*") if (m := _CHECKPOINT.match(p.name)) and p.is_dir()]
        return [path for _, path in sorted(numbered)]

    @staticmethod
    def step_of(checkpoint: Path) -> int:
        """N of ``checkpoint-N``."""
        return int(checkpoint.name.rpartition("-")[2])

    def former(self, record: Path, step: int) -> Path:
        """Where a record of the run (``recipe.yaml``, ...) is kept as it was up to ``step``."""
        return record.with_name(f"{record.stem}.until-step-{step}{record.suffix}")

    def former_records(self) -> list[Path]:
        """All former records."""
        return sorted(self.path.glob("*.until-step-*"))

    def staged(self, name: str) -> Path:
        """Where ``name`` is written before it is whole."""
        return self.path / f"{STAGING_PREFIX}{name}"

    def leftovers(self) -> Iterator[Path]:
        """All that is staged, and so not whole."""
        return self.path.glob(f"{STAGING_PREFIX}*")

    @property
    def finished(self) -> bool:
        """Whether it holds the encoder, which is written last, and whole or not at all."""
        return self.finished_at is not None

    @property
    def finished_at(self) -> float | None:
        """When the encoder was written, as a file's time of change; ``None``: it is not there."""
        times = [file.stat().st_mtime for file in self.encoder.glob("*.safetensors")]
        return max(times, default=None)
