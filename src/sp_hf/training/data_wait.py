"""How much of a run's time its steps wait for images to be decoded, and what to do about it."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..run.cores import own_cores

logger = logging.getLogger(__name__)

MOST = 0.03  # share of the time that may go to waiting


def needed_workers(workers: int, share: float) -> int:
    """Workers that would keep up with the steps, where ``workers`` of them leave a ``share`` of the time to waiting."""
    return math.ceil(max(workers, 1) / (1 - min(share, 0.99)))


class DataWait(TrainerCallback):
    """The share of each logging interval in which the loop waited for its next batches. To be added before the log.

    Says so once where it is over 3 % for two intervals, of which neither is the first: workers start in that.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.share: float | None = None  # of the last interval
        self._clock = clock
        self._waited = 0.0
        self._since = 0.0
        self._late = -1  # intervals in a row with too much of it; the first does not count
        self._told = False

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fetches the next batches."""
        start = self._clock()
        yield
        self._waited += self._clock() - start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._since, self._waited = self._clock(), 0.0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or "learning_rate" not in logs:
            return
        now = self._clock()
        self.share = self._waited / max(now - self._since, 1e-9)
        self._since, self._waited = now, 0.0
        self._late = self._late + 1 if self.share > MOST or self._late < 0 else 0
        if self._late >= 2 and not self._told and state.is_world_process_zero:
            logger.warning("%s", hint(self.share, args.dataloader_num_workers, own_cores()))
            self._told = True


def hint(share: float, workers: int, available: int) -> str:
    """What to do where steps wait for images.

    Args:
        share: of the time.
        workers: that decode now. available: cores that they could have.
    """
    waits = f"steps wait {100 * share:.0f} % of the time for images"
    if workers < available:
        more = min(max(needed_workers(workers, share), workers + 1), available)
        return f"{waits}: raise --dataloader_num_workers from {workers} to {more}."
    return (
        f"{waits}, and --dataloader_num_workers {workers} has all {available} cores: lower --canvas_size, store smaller"
        " images, or pip install simplejpeg."
    )
