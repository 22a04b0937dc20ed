"""``--resume auto``: one command starts a run, goes on with it, finishes its export, or finds it done."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sp_hf.encoders.encoder import Encoder
from sp_hf.run import alone
from sp_hf.run.folder import RunFolder
from sp_hf.training import checkpointing
from sp_hf.training import pretrain as pretraining
from sp_hf.training.callbacks import MetricsFile
from sp_hf.training.trainer import PretrainingTrainer

from .runs import RESULTS, STREAM, assert_same_results, copy_without, everything, history, pretrain, write_recipe


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A folder with a recipe, and the run of it that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert pretrain(write_recipe(folder, tiny_encoder), folder / "run", "--resume", "auto") == 0
    return folder


@pytest.mark.fault("killed after the last step, before or in the midst of the export")
def test_a_stream_killed_before_the_export_is_finished_without_another_step(tmp_path: Path, tiny_encoder: Path) -> None:
    recipe, whole = write_recipe(tmp_path, tiny_encoder, **STREAM), tmp_path / "whole"
    assert pretrain(recipe, whole, "--resume", "auto") == 0
    run = copy_without(whole, tmp_path / "run", *RESULTS)
    assert pretrain(recipe, run, "--resume", "auto") == 0
    assert_same_results(run, whole)
    before = everything(run)
    assert pretrain(recipe, run, "--resume", "auto") == 0
    assert everything(run) == before


@pytest.mark.fault("killed after the last step, before or in the midst of the export")
def test_killed_before_the_export_it_is_finished_without_another_step(whole: Path, tmp_path: Path) -> None:
    run = copy_without(whole / "run", tmp_path / "run", *RESULTS)
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")
    assert {path.name for path in run.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in (2, 4, 6)}


@pytest.mark.fault("a finished run is started again")
@pytest.mark.parametrize("resume", ["auto", "last"])
def test_a_finished_run_is_not_touched(whole: Path, resume: str, capsys: pytest.CaptureFixture) -> None:
    before = everything(whole / "run")
    assert pretrain(whole / "six.yaml", whole / "run", "--resume", resume) == 0
    assert "already done (6 steps): nothing was changed" in capsys.readouterr().out
    assert everything(whole / "run") == before


def _after_saving(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """The encoder is staged."""
    save = Encoder.save_stock

    def saved(self: Encoder, directory: Path, *args: object, **options: object) -> None:
        save(self, directory, *args, **options)
        action()

    monkeypatch.setattr(Encoder, "save_stock", saved)


def _after_publishing_one(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """pretraining/ is in its place, encoder/ is not."""
    publish = checkpointing.publish

    def published(staged: Path, final: Path) -> None:
        publish(staged, final)
        action()

    monkeypatch.setattr(checkpointing, "publish", published)


def _before_the_record(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Both are in their places."""
    write = checkpointing.write_finished

    def written(*args: object) -> None:
        action()
        write(*args)

    monkeypatch.setattr(checkpointing, "write_finished", written)


def _before_anything(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """The last step is behind."""
    save = PretrainingTrainer.save_final

    def final(self: PretrainingTrainer, run: RunFolder) -> None:
        action()
        save(self, run)

    monkeypatch.setattr(PretrainingTrainer, "save_final", final)


MOMENTS = [_before_anything, _after_saving, _after_publishing_one, _before_the_record]


class Killed(BaseException):
    """What no handler of the package's takes for its own, as a process that is gone runs none."""


def kill() -> None:
    raise Killed


@pytest.mark.fault("killed after the last step, before or in the midst of the export")
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__.strip("_"))
def test_killed_in_the_final_save_it_is_finished(whole: Path, tmp_path: Path, moment: Callable) -> None:
    run = copy_without(whole / "run", tmp_path / "run", *RESULTS)
    with pytest.MonkeyPatch.context() as patch:
        moment(patch, kill)
        with pytest.raises(Killed):
            pretrain(whole / "six.yaml", run, "--resume", "auto")
    assert not (run / "finished.json").exists()
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")


@pytest.mark.fault("Ctrl-C or SIGTERM")
def test_a_signal_in_the_final_save_waits_for_it(whole: Path, tmp_path: Path) -> None:
    run = copy_without(whole / "run", tmp_path / "run", *RESULTS)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        _after_publishing_one(patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def _no_room(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "a file")


@pytest.mark.fault("the disk is full, or fills up")
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MetricsFile, "on_train_begin"),
        (pretraining, "draw_curves"),
        (Encoder, "save_stock"),
        (checkpointing, "write_finished"),
    ],
)
def test_a_disk_that_is_full_at_the_end_is_said_so_and_loses_nothing(
    whole: Path, tmp_path: Path, owner: object, name: str, capsys: pytest.CaptureFixture
) -> None:
    run = copy_without(whole / "run", tmp_path / "run", *RESULTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, _no_room)
        assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 1
    error = capsys.readouterr().err
    assert "no room" in error and "Traceback" not in error
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")


@pytest.mark.fault("a finished run's encoder is damaged")
def test_a_damaged_export_is_made_anew(whole: Path, tmp_path: Path) -> None:
    run = copy_without(whole / "run", tmp_path / "run")
    (run / "encoder" / "model.safetensors").write_bytes(b"x")
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")


@pytest.mark.fault("a finished run is started again")
def test_a_run_without_checkpoints_is_neither_overwritten_nor_extended(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe, run = write_recipe(tmp_path, tiny_encoder, max_steps=2, save_strategy="no"), tmp_path / "run"
    assert pretrain(recipe, run) == 0
    before = everything(run)
    assert pretrain(recipe, run) == 1
    assert "already holds a run (encoder)" in capsys.readouterr().err
    assert pretrain(recipe, run, "--resume", "auto") == 0
    assert pretrain(recipe, run, "--resume", "auto", "--max_steps", "3") == 1
    assert "steps: 2 before, 3 now" in capsys.readouterr().err
    assert pretrain(recipe, run, "--resume", "auto", "--max_steps", "3", "--allow_changes") == 1
    assert "no checkpoint to go on from" in capsys.readouterr().err
    assert everything(run) == before


@pytest.mark.fault("two processes at once in one run folder, or a run folder among its images")
def test_a_second_process_in_the_same_folder_is_refused(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = copy_without(whole / "run", tmp_path / "run", *RESULTS)
    before = everything(run)
    monkeypatch.setattr(alone, "PATIENCE", 0.2)
    with alone.alone_in(run):
        assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 1
    assert "another process is training in" in capsys.readouterr().err
    assert everything(run) == before
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")


def test_a_finished_run_is_made_longer_when_asked(whole: Path, tmp_path: Path) -> None:
    run = copy_without(whole / "run", tmp_path / "run")
    assert pretrain(whole / "six.yaml", run, "--resume", "auto", "--max_steps", "7", "--allow_changes") == 0
    assert history(run)[:6] == history(whole / "run")[:6]
    assert max(record["step"] for record in history(run)) == 7
    assert RunFolder(run).former(run / "recipe.yaml", 6).read_bytes() == (whole / "run" / "recipe.yaml").read_bytes()


def test_the_steps_of_epochs_are_known_before_they_are_trained(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture
) -> None:
    """Else a run that is done would go on."""
    options = {"max_steps": -1, "num_train_epochs": 0.6, "gradient_accumulation_steps": 2, "save_strategy": "epoch"}
    recipe = write_recipe(tmp_path, tiny_encoder, **options, dataset="part-scenes?size=32&num_images=20")
    assert pretrain(recipe, tmp_path / "run") == 0
    record = json.loads((tmp_path / "run" / "finished.json").read_text())
    assert record["step"] == record["contract"]["steps"] == 2  # of 20 images: 5 batches, 3 steps an epoch
    assert pretrain(recipe, tmp_path / "run", "--resume", "auto") == 0
    assert "already done" in capsys.readouterr().out


def test_both_names_of_resume_must_agree(tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = write_recipe(tmp_path, tiny_encoder)
    assert pretrain(recipe, tmp_path / "run", "--resume", "auto", "--resume_from_checkpoint", "last") == 1
    assert "--resume auto and --resume_from_checkpoint last" in capsys.readouterr().err
