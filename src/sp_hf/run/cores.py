"""The processor cores that a process may call its own."""

from __future__ import annotations

import os

_MOST_WORKERS = 16  # each holds batches in memory


def own_cores() -> int:
    """Of the cores that this process may run on, its share among the run's processes on this machine."""
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(able // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def default_workers() -> int:
    """Processes that decode images where nobody says how many; the log says when more are needed."""
    return min(own_cores(), _MOST_WORKERS)
