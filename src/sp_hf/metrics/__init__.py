"""Metrics for Hugging Face's ``evaluate`` library: one folder each, which is also a Space as it stands.

``evaluate.load(metrics.path("jigsaw"))`` loads one; the folder's README says what it takes and gives. The metrics
import nothing of this package, so that a copy of the folder works alone.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

METRICS = ("jigsaw", "mean_corruption_error", "relative_geometry", "shape_bias")


def path(name: str) -> str:
    """The installed folder of a metric, for ``evaluate.load``.

    Args:
        name: one of :data:`METRICS`.

    Raises:
        ValueError: there is no such metric.
    """
    if name not in METRICS:
        raise InputError(f"no metric is called {name!r}; there are {', '.join(METRICS)}")
    return str(Path(__file__).parent / name)
