"""Workers that decode images outlive the signals that ask a run to stop, however they are started."""

from __future__ import annotations

import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from sp_hf.training.workers import OutlivesSignals


class Interrupted(Dataset):
    """Its first item is asked for by a worker that gets the signal."""

    def __init__(self, number: int) -> None:
        self.number, self.here = number, os.getpid()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        assert os.getpid() != self.here
        if index == 0:
            os.kill(os.getpid(), self.number)
        return index


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_worker_goes_on(number: signal.Signals) -> None:
    """With Python's own handlers, as a worker has them that is not forked from the run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loader = DataLoader(Interrupted(number), num_workers=1, worker_init_fn=OutlivesSignals(None))
        assert [int(batch) for batch in loader] == [0, 1, 2]
    finally:
        signal.signal(signal.SIGINT, before)
