"""Whole runs with masks, memories, boxes from the dataset and positions that follow the crop: they resume exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from sp_hf.cli import main
from sp_hf.training.building import default_canvas_size

from .conftest import tiny_options

VIEWS = {"count": 2, "size": 16, "area": [0.3, 1.0]}
IBOT = {
    "name": "ibot",
    "global_views": {**VIEWS, "positions": "crop", "position_window": [2, 5]},
    "local_views": None,
    "prototypes": 16,
    "head_width": 16,
}
PIRL = {
    "name": "pirl",
    "views": {**VIEWS, "count": 1},
    "tiles": {"count": 4, "size": 8, "area": [0.6, 1.0], "grid": {"rows": 2, "columns": 2, "gap": 0.25}},
    "negatives": 8,
    "embedding_size": 8,
}
LOROT = {"name": "lorot", "views": {**VIEWS, "boxes": "part_boxes"}, "variant": "E"}


@pytest.fixture
def recipe(tmp_path: Path, tiny_encoder: Path) -> Path:
    options = tiny_options(tiny_encoder) | {
        "objectives": [IBOT, PIRL, LOROT],
        "position_field": 6,
        "max_steps": 4,
        "logging_steps": 1,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
        "save_total_limit": 9,
    }
    path = tmp_path / "three.yaml"
    path.write_text(json.dumps(options))
    return path


@pytest.mark.parametrize("flags", [(), ("--streaming", "--images_per_epoch", "16")], ids=["map-style", "streaming"])
def test_a_resumed_run_equals_the_uninterrupted_one(recipe: Path, tmp_path: Path, flags: tuple) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(whole), *flags]) == 0
    shutil.copytree(whole / "checkpoint-2", broken / "checkpoint-2")
    resume = ("--resume_from_checkpoint", "last")
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(broken), *flags, *resume]) == 0
    ours, theirs = (load_file(folder / "pretraining" / "model.safetensors") for folder in (broken, whole))
    start = load_file(whole / "checkpoint-2" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    for name in ("memory.entries", "patch_centre.centre", "mask_token", "position_field"):
        moved = [key for key in ours if key.endswith(name) and not torch.equal(ours[key], start[key])]
        assert moved, f"{name} has not moved"
    entries = next(value for name, value in ours.items() if name.endswith("memory.entries"))
    assert len(entries) == (8 if flags else 16)  # a queue of a stream, else an entry an image
    metrics = (whole / "metrics.jsonl").read_text()
    assert all(name in metrics for name in ("ibot/patch_accuracy", "pirl/accuracy", "lorot/accuracy"))
    stock, report = AutoModel.from_pretrained(whole / "encoder", output_loading_info=True)
    assert type(stock).__name__ == "ViTModel" and not report["unexpected_keys"] and not report["missing_keys"]


def test_boxes_of_the_dataset_reach_the_views(recipe: Path, tmp_path: Path, monkeypatch) -> None:
    from sp_hf.training import trainer

    seen = []
    sample = trainer.ViewSampler.__call__

    def spy(self, canvases, aspects, keys, boxes=None):
        views = sample(self, canvases, aspects, keys, boxes)
        seen.append((boxes, views["lorot/image"].boxes))
        return views

    monkeypatch.setattr(trainer.ViewSampler, "__call__", spy)
    flags = ["--max_steps", "1", "--objectives", "lorot"]
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(tmp_path / "run"), *flags]) == 0
    boxes, views = next((b, v) for b, v in seen if b)  # the first ones are for the picture of sample views
    parts = boxes["part_boxes"]  # [B, K, 4]
    for b in range(len(parts)):
        for view in views[b]:
            assert ((view[:2] - parts[b, :, :2]).abs().amax(-1) < 0.15).any()  # enlarged, within the image


def test_a_column_that_holds_no_boxes_is_refused(recipe: Path, tmp_path: Path, capsys) -> None:
    options = json.loads(recipe.read_text())
    options["objectives"] = [{**LOROT, "views": {**VIEWS, "boxes": "no_such_column"}}]
    recipe.write_text(json.dumps(options))
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(tmp_path / "run")]) != 0
    assert "no_such_column" in capsys.readouterr().err


def test_another_number_of_images_is_refused(recipe: Path, tmp_path: Path, capsys) -> None:
    options = json.loads(recipe.read_text())
    options["objectives"] = [{**PIRL, "num_images": 99}]
    recipe.write_text(json.dumps(options))
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(tmp_path / "run")]) != 0
    assert "num_images 99, but" in capsys.readouterr().err


def test_the_canvas_is_large_enough_for_a_grid() -> None:
    from sp_hf.views.spec import ViewSpec

    class Model:
        grid = {"rows": 3, "columns": 3, "gap": 1 / 3}
        view_specs = {"tiles": ViewSpec(count=9, size=96, area=(0.9, 1.0), grid=grid)}

    assert default_canvas_size(Model()) == 432
