"""A resumed run is the run that it was: differences are refused, or said and recorded; damage costs steps, no more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from .runs import RESULTS, assert_same_results, copy_without, everything, history, pretrain, write_recipe

AFTER_4 = ("checkpoint-6", *RESULTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A folder with a recipe, and the run of it that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert pretrain(write_recipe(folder, tiny_encoder), folder / "run") == 0
    return folder


@pytest.fixture(scope="module")
def half(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as it was when it was killed after its fourth step; not to be written to."""
    return copy_without(whole / "run", tmp_path_factory.mktemp("half") / "run", *AFTER_4)


@pytest.mark.fault("resumed with other data, seed, batch, optimizer, objectives or schedule")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--dataset", "part-scenes?size=32&num_images=20"), ["num_images=20 now", "images: 16 before, 20 now"]),
        (("--seed", "4"), ["seed: 3 before, 4 now"]),
        (("--canvas_size", "48"), ["canvas_size: 32 before, 48 now"]),
        (("--per_device_train_batch_size", "2"), ["per_device_train_batch_size: 4 before, 2 now"]),
        (("--gradient_accumulation_steps", "2"), ["gradient_accumulation_steps: 1 before, 2 now"]),
        (("--optim", "sgd"), ["optim: adamw_torch_fused before, sgd now"]),
        (
            ("--layer_decay", "0.5", "--learning_rate", "1"),
            ["layer_decay: 1.0 before, 0.5 now", "learning_rate: 0.0"],
        ),
        (("--objectives", "dino=2", "spatial_prediction"), ["objectives.dino.weight: 1.0 before, 2.0 now"]),
        (("--objectives", "dino"), ['in this order: ["dino", "spatial_prediction"] before, ["dino"] now']),
        (("--max_steps", "9"), ["steps: 6 before, 9 now"]),
        (("--lr_scheduler_type", "linear", "--lr_scheduler_kwargs", "{}"), ["lr_scheduler_type: cosine_with_min_lr"]),
        (("--teacher_momentum", "0.5", "1"), ["teacher_momentum: [] before, [0.5, 1.0] now"]),
    ],
    ids=lambda value: value[0].lstrip("-") if value and value[0].startswith("--") else "",
)
def test_a_change_is_refused_by_name(whole: Path, half: Path, flags: tuple, said: list, capsys) -> None:
    before = everything(half)
    assert pretrain(whole / "six.yaml", half, *flags, "--resume", "auto") == 1
    error = capsys.readouterr().err
    assert "checkpoint-4 was written with other options" in error and "--allow_changes" in error
    assert all(phrase in error for phrase in said) and "Traceback" not in error
    assert everything(half) == before


def test_how_it_runs_is_free_and_the_recipe_of_the_run_resumes_it(whole: Path, half: Path, tmp_path: Path) -> None:
    run = copy_without(half, tmp_path / "run")
    flags = ("--save_steps", "3", "--dataloader_num_workers", "1", "--max_skipped", "5", "--collapse_std", "0.01")
    assert pretrain(half / "recipe.yaml", run, *flags, "--resume", "auto") == 0
    assert_same_results(run, whole / "run")


def test_an_allowed_change_is_said_and_the_first_half_stays_on_record(
    whole: Path, half: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy_without(half, tmp_path / "run")
    flags = ("--learning_rate", "0.001", "--weight_decay_end", "0.2", "--allow_changes")
    assert pretrain(whole / "six.yaml", run, *flags, "--resume", "auto") == 0
    assert "changed from here on (--allow_changes): learning_rate: 0.0005 before, 0.001 now" in caplog.text
    recipes = [yaml.safe_load((run / name).read_text()) for name in ("recipe.until-step-4.yaml", "recipe.yaml")]
    assert [recipe["learning_rate"] for recipe in recipes] == [0.0005, 0.001]
    assert (run / "recipe.until-step-4.yaml").read_bytes() == (half / "recipe.yaml").read_bytes()
    assert not list(run.glob("environment.until*")) and not list(run.glob("views.until*"))  # they are the same
    rates = [line["learning_rate"] for line in history(run)[:6]]
    was = [line["learning_rate"] for line in history(whole / "run")[:6]]
    assert rates[:4] == was[:4] and rates[4] == pytest.approx(was[4] * 2, rel=0.01)
    assert history(run)[:4] == history(whole / "run")[:4] and len(history(run)) == 7
    contracts = [json.loads((run / f"checkpoint-{n}" / "contract.json").read_text()) for n in (2, 4, 6)]
    assert [contract["learning_rate"] for contract in contracts] == [0.0005, 0.0005, 0.001]


@pytest.mark.fault("a file of the newest checkpoint is missing, cut short, too long, or has a bit flipped")
def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(
    whole: Path, half: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy_without(half, tmp_path / "run")
    weights = run / "checkpoint-4" / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 0
    assert "checkpoint-4 is damaged: optimizer.pt has" in caplog.text
    assert_same_results(run, whole / "run")
    assert (run / "damaged-checkpoint-4").is_dir() and (run / "checkpoint-4").is_dir()


@pytest.mark.fault("all checkpoints are damaged, or of an older version")
def test_a_checkpoint_of_an_older_version_goes_on_when_asked(whole: Path, half: Path, tmp_path: Path, capsys) -> None:
    run = copy_without(half, tmp_path / "run", "checkpoint-2")
    for name in ("manifest.json", "contract.json"):
        (run / "checkpoint-4" / name).unlink()
    assert pretrain(whole / "six.yaml", run, "--resume", "auto") == 1
    assert "written by an older version" in capsys.readouterr().err
    assert pretrain(whole / "six.yaml", run, "--resume", "auto", "--allow_changes") == 0
    shutil.rmtree(run / "checkpoint-4")
    assert_same_results(run, whole / "run")


@pytest.mark.fault("resumed with other data, seed, batch, optimizer, objectives or schedule")
def test_weights_that_do_not_fit_are_said_so(whole: Path, half: Path, tmp_path: Path, capsys) -> None:
    run = copy_without(half, tmp_path / "run")
    flags = ("--objectives", "spatial_prediction", "--allow_changes", "--resume", "auto")
    assert pretrain(whole / "six.yaml", run, *flags) == 1
    error = capsys.readouterr().err
    assert "checkpoint-4" in error and "objectives.dino" in error and "Traceback" not in error
