"""The ledger of images that could not be read: counted, told, and bounded."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, RunError
from ..whole_file import write_whole

logger = logging.getLogger(__name__)

_SHOWN = 20
LEAST_SEEN = 1000


class TooManySkippedImages(RunError):
    """More unreadable images than the run allows; lists them."""


class SkippedLedger:
    """Keeps the distinct reports of unreadable images that batches carry. Lives in the main process.

    With several ranks, each rank's ledger knows the images of its own batches; give each a file of its own.

    Args:
        path: JSON file, rewritten whenever an image is added (``{"count": n, "images": [...]}``); ``None``: none.
        max_skipped: more distinct images than this stop the run; below 1, more than this share of the images, rounded
            up; ``None``: never.
        images: how many there are; ``None``: as many as were seen, and ``LEAST_SEEN`` at least.

    Raises:
        InputError: ``max_skipped`` is negative, or no whole number above 1.
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        max_skipped: float | None = None,
        images: int | None = None,
    ) -> None:
        if max_skipped is not None and (max_skipped < 0 or (max_skipped > 1 and max_skipped % 1)):
            raise InputError(
                f"max_skipped is {max_skipped}; it must be a whole number, or a share below 1 (None for no limit)"
            )
        self.path = None if path is None else Path(path)
        self.max_skipped, self.images = max_skipped, images
        self._seen = 0
        self._reports: dict[str, None] = {}  # an ordered set

    def __len__(self) -> int:
        return len(self._reports)

    @property
    def reports(self) -> list[str]:
        """Distinct reports, in order of appearance."""
        return list(self._reports)

    @property
    def limit(self) -> float:
        """How many may be skipped, as things stand."""
        if self.max_skipped is None:
            return math.inf
        if self.max_skipped >= 1:
            return self.max_skipped
        images = max(self._seen, LEAST_SEEN) if self.images is None else self.images
        return math.ceil(self.max_skipped * images)

    def add(self, reports: Iterable[str], seen: int = 0) -> None:
        """Take in a batch's ``skipped`` list; warns once per image.

        Args:
            reports: of its unreadable images.
            seen: images that it holds.

        Raises:
            TooManySkippedImages: there are now more than ``max_skipped``.
        """
        self._seen += seen
        new = [report for report in dict.fromkeys(reports) if report not in self._reports]
        if not new:
            return
        self._reports.update(dict.fromkeys(new))
        for report in new:
            logger.warning("skipped an unreadable image: %s", report)
        self._write()
        self._check()

    def state_dict(self) -> dict[str, Any]:
        return {"reports": self.reports, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._reports = dict.fromkeys(state["reports"])
        self._seen = state.get("seen", 0)  # older versions did not count

    def _check(self) -> None:
        if len(self) <= self.limit:
            return
        lines = self.reports[:_SHOWN] + ([f"... and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else [])
        place = f" (whole list: {self.path})" if self.path else ""
        raise TooManySkippedImages(
            f"{len(self)} images could not be read, and max_skipped is {self._shown_limit()}{place}. "
            "Repair or remove them, or raise max_skipped:\n  " + "\n  ".join(lines)
        )

    def _shown_limit(self) -> str:
        if self.max_skipped is None or self.max_skipped >= 1 or self.max_skipped == 0:
            return "unlimited" if self.max_skipped is None else f"{self.max_skipped:g}"
        of = f"{self.images}" if self.images is not None else f"the {self._seen} so far"
        return f"{self.max_skipped:g}, {self.limit:.0f} of {of}"

    def _write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"count": len(self), "images": self.reports}
        write_whole(self.path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
