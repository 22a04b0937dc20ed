"""``--check``: everything up to the first step, and nothing that stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sp_hf.objectives.where.spatial_prediction import SpatialPredictionConfig
from sp_hf.training import check

from .runs import STREAM, everything, pretrain, write_recipe


@pytest.mark.parametrize("changes", [{}, STREAM], ids=["map-style", "streaming"])
def test_a_check_says_what_the_run_would_be_and_leaves_nothing(
    tmp_path: Path, tiny_encoder: Path, changes: dict, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    recipe = write_recipe(tmp_path, tiny_encoder, gradient_accumulation_steps=2, **changes)
    before = everything(tmp_path)
    assert pretrain(recipe, tmp_path / "below" / "run", "--check") == 0
    assert "could begin at step 0. Nothing was written." in capsys.readouterr().out
    for words in (
        "6 steps of 8 images",
        "dino, weight 1; global: 2 x 16 px, 0.3 to 1 of the image, no photometric jitter; local: 2 x 8 px",
        f"spatial_prediction, weight {SpatialPredictionConfig.weight:g}; local: 3 x 16 px",
        "the loss of a first batch is ",
    ):
        assert words in caplog.text
    assert everything(tmp_path) == before and not (tmp_path / "below").exists()


def test_a_check_of_a_run_that_is_there_changes_nothing(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe, run = write_recipe(tmp_path, tiny_encoder, max_steps=2), tmp_path / "run"
    assert pretrain(recipe, run) == 0
    before = everything(run)
    assert pretrain(recipe, run, "--check", "--resume", "auto") == 0
    assert "already done" in capsys.readouterr().out
    assert pretrain(recipe, run, "--check") == 1
    assert pretrain(recipe, run, "--check", "--resume", "auto", "--seed", "9") == 1
    assert "seed: 3 before, 9 now" in capsys.readouterr().err
    assert pretrain(recipe, run, "--check", "--resume", "auto", "--max_steps", "3", "--allow_changes") == 0
    assert "could begin at step 2" in capsys.readouterr().out
    assert everything(run) == before


def test_a_check_finds_what_the_first_step_would(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    recipe = write_recipe(tmp_path, tiny_encoder)
    with monkeypatch.context() as patch:
        forward = check.PretrainingTrainer.compute_loss
        patch.setattr(
            check.PretrainingTrainer, "compute_loss", lambda self, *args: forward(self, *args) * torch.tensor(torch.nan)
        )
        assert pretrain(recipe, tmp_path / "run", "--check") == 1
    assert "not finite in the very first batch" in capsys.readouterr().err
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        (photos / f"{i}.png").write_bytes(b"no image")
    assert pretrain(recipe, tmp_path / "run", "--check", "--dataset", str(photos)) == 1
    assert "not one of these 8 images can be read" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_recipe_of_a_run_says_check(tmp_path: Path, tiny_encoder: Path) -> None:
    """A run is not one that only checks because somebody had checked it."""
    recipe = write_recipe(tmp_path, tiny_encoder, max_steps=1, check=True)
    assert pretrain(recipe, tmp_path / "run", "--check", "false") == 0
    assert "check" not in json.loads((tmp_path / "run" / "finished.json").read_text())["contract"]
    assert "check:" not in (tmp_path / "run" / "recipe.yaml").read_text()
