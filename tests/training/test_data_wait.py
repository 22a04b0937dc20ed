"""The wait for images, on a clock of our own."""

from types import SimpleNamespace

import pytest

from sp_hf.run.arguments import PretrainingArguments
from sp_hf.run.cores import default_workers, own_cores
from sp_hf.training.data_wait import DataWait, hint, needed_workers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def intervals(shares):
    """A wait after logging intervals of 10 s, of which ``shares`` were waited."""
    clock = Clock()
    wait = DataWait(clock)
    args, state = SimpleNamespace(dataloader_num_workers=1), SimpleNamespace(is_world_process_zero=True)
    wait.on_train_begin(args, state, None)
    for share in shares:
        with wait.waiting():
            clock.now += 10 * share
        clock.now += 10 * (1 - share)
        wait.on_log(args, state, None, {"loss": 1.0, "learning_rate": 0.1})
        wait.on_log(args, state, None, {"probe/knn": 1.0})  # no training log line: it ends no interval
    return wait


def test_share_is_that_of_the_last_interval():
    assert intervals([]).share is None
    assert intervals([0.5, 0.25]).share == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("shares", "told"), [([0.9, 0.0], 0), ([0.9, 0.2, 0.0, 0.2], 0), ([0.0, 0.1, 0.1, 0.1], 1), ([0.02] * 9, 0)]
)
def test_the_hint_comes_once_and_not_of_the_start(shares, told, caplog):
    intervals(shares)
    assert [record.message.startswith("steps wait 10 % of the time") for record in caplog.records] == [True] * told


def test_hint_names_the_workers_that_would_do():
    assert needed_workers(4, 0.5) == 8 and needed_workers(3, 0.1) == 4 and needed_workers(0, 1.0) == 100
    assert "from 4 to 8" in hint(0.5, 4, 16) and "from 4 to 6" in hint(0.5, 4, 6)
    assert "all 4 cores" in hint(0.5, 4, 4)


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    alone = own_cores()
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert default_workers() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert own_cores() == default_workers() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100")
    assert own_cores() == 1 <= alone


@pytest.mark.parametrize("pinned", [True, False])
def test_pinned_batches_are_copied_without_waiting(pinned, tmp_path):
    args = PretrainingArguments(output_dir=str(tmp_path), dataloader_pin_memory=pinned)
    assert args.dataloader_pin_memory == args.accelerator_config.non_blocking == pinned
    assert not args.logging_nan_inf_filter
    on_cpu = PretrainingArguments(output_dir=str(tmp_path), dataloader_pin_memory=pinned, use_cpu=True)
    assert not on_cpu.dataloader_pin_memory and not on_cpu.accelerator_config.non_blocking
