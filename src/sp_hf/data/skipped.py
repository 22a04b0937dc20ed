"""The ledger of images that could not be read: counted, told, and bounded."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, RunError
from ..whole_file import write_whole

logger = logging.getLogger(__name__)

_SHOWN = 20


class TooManySkippedImages(RunError):
    """More unreadable images than the run allows; lists them."""


class SkippedLedger:
    """Keeps the distinct reports of unreadable images that batches carry. Lives in the main process.

    With several ranks, each rank's ledger knows the images of its own batches; give each a file of its own.

    Args:
        path: JSON file, rewritten whenever an image is added (``{"count": n, "images": [...]}``); ``None``: none.
        max_skipped: more distinct images than this stop the run; ``None``: never.
    """

    def __init__(self, path: str | os.PathLike | None = None, max_skipped: int | None = None) -> None:
        if max_skipped is not None and max_skipped < 0:
            raise InputError(f"max_skipped is {max_skipped}; it must be 0 or more (None for no limit)")
        self.path = None if path is None else Path(path)
        self.max_skipped = max_skipped
        self._reports: dict[str, None] = {}  # an ordered set

    def __len__(self) -> int:
        return len(self._reports)

    @property
    def reports(self) -> list[str]:
        """Distinct reports, in order of appearance."""
        return list(self._reports)

    def add(self, reports: Iterable[str]) -> None:
        """Take in a batch's ``skipped`` list; warns once per image.

        Raises:
            TooManySkippedImages: there are now more than ``max_skipped``.
        """
        new = [report for report in dict.fromkeys(reports) if report not in self._reports]
        if not new:
            return
        self._reports.update(dict.fromkeys(new))
        for report in new:
            logger.warning("skipped an unreadable image: %s", report)
        self._write()
        self._check()

    def state_dict(self) -> dict[str, list[str]]:
        return {"reports": self.reports}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._reports = dict.fromkeys(state["reports"])

    def _check(self) -> None:
        if self.max_skipped is None or len(self) <= self.max_skipped:
            return
        lines = self.reports[:_SHOWN] + ([f"... and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else [])
        where = f" (whole list: {self.path})" if self.path else ""
        raise TooManySkippedImages(
            f"{len(self)} images could not be read, and max_skipped is {self.max_skipped}{where}. "
            "Repair or remove them, or raise max_skipped:\n  " + "\n  ".join(lines)
        )

    def _write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"count": len(self), "images": self.reports}
        write_whole(self.path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
