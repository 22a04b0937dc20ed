"""The start of the processes that decode images: they outlive the signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable


class OutlivesSignals:
    """A ``worker_init_fn``. Schedulers send SIGTERM to every process of a job, and a terminal its Ctrl-C; a worker that
    died of it would end the run with an error under the step that is to be finished and saved. Workers end when the
    main process lets them go, or is gone.

    Args:
        then: the ``worker_init_fn`` that was there before.
    """

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a worker that is not forked inherits no handler
            signal.signal(number, signal.SIG_IGN)
        if self.then is not None:
            self.then(worker)
