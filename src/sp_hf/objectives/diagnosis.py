"""The log lines of a run as a history, and findings: what is amiss in it, and what to try.

Every objective may judge its own log lines (:meth:`~sp_hf.objectives.base.Objective.diagnose`); what holds of any run
is judged in :mod:`sp_hf.training.diagnosis`, which also reports.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# SP's own R2 of position passes 0.07 at 75 steps where an encoder learns and stays at 0.001 at 300 where it does not
# (vit-micro-8, batch 32): before that many steps nothing is told apart.
LEAST_STEPS = 300
# Under a short schedule the learning rate is still near its peak and metrics still move after 300 steps.
LEAST_SHARE = 1 / 3
# Long runs are told while there is time: what has not moved in so many steps after the warm-up is not slow but stuck.
MOST_STEPS = 5000
# A metric is judged by its mean over the last quarter of its log lines: one batch's metric is noisy.
RECENT_SHARE = 1 / 4


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something amiss.

    Args:
        section: anchor of what docs/troubleshooting.md says of it; also its name.
        since: optimizer step from which on it is seen.
        seen: what was seen, with the number and its limit.
        remedy: what to try, a sentence or two.
    """

    section: str
    since: int
    seen: str
    remedy: str


class Recent(NamedTuple):
    """Mean of a metric over its last log lines, the first of them at step ``since``."""

    mean: float
    since: int


@dataclasses.dataclass(frozen=True)
class LogHistory:
    """The log lines so far.

    Args:
        lines: in order, each with its ``"step"``.
        total_steps: of the run.
        warmup_steps: of the learning rate.
        prefix: put before every name that is asked for.
    """

    lines: Sequence[Mapping[str, Any]]
    total_steps: int
    warmup_steps: int
    prefix: str = ""

    def within(self, objective: str) -> LogHistory:
        """The same, where names are those under which an objective logs."""
        return dataclasses.replace(self, prefix=f"{objective}/")

    @property
    def step(self) -> int:
        """The step of the last line."""
        return self.lines[-1]["step"] if self.lines else 0

    @property
    def settled(self) -> bool:
        """Whether it is late enough to expect learning: past the warm-up, 300 steps and a third of the run.

        A third of the run is 5,000 steps at most.
        """
        return self.step >= max(LEAST_STEPS, self.warmup_steps, min(self.total_steps * LEAST_SHARE, MOST_STEPS))

    def points(self, name: str, after: int = -1) -> list[tuple[int, float]]:
        """(step, value) of a metric, of the lines that hold it and come after a step."""
        name = self.prefix + name
        return [(line["step"], line[name]) for line in self.lines if name in line and line["step"] > after]

    def recent(self, name: str) -> Recent | None:
        """A metric over the last quarter of its lines, one line at least; ``None`` if it was never logged."""
        points = self.points(name)
        if not points:
            return None
        last = points[-max(int(len(points) * RECENT_SHARE), 1) :]
        return Recent(statistics.fmean(value for _, value in last), last[0][0])
