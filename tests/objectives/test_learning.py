"""Each framework's own metric rises on PartScenes within a minute, as its recipe's header says of photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sp_hf
from sp_hf.run.folder import RunFolder
from sp_hf.run.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
IMAGES = 32  # of a batch: chance of an accuracy among its views is 1 / 32 or less
ABOVE_CHANCE = {
    "simclr": ("accuracy", 3 / IMAGES),
    "byol": ("accuracy", 2 / IMAGES),
    "vicreg": ("accuracy", 3 / IMAGES),
    "lejepa": ("accuracy", 3 / IMAGES),
    "ijepa": ("r2", 0.1),
    "dinov2": ("patch_accuracy", 10 / 1024),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ABOVE_CHANCE)
def test_own_metric_is_above_chance_on_part_scenes(name, tmp_path):
    recipe = read_recipe(RECIPES / f"caltech101_{name}_sp.yaml")
    (entry,) = (entry for entry in recipe["objectives"] if entry["name"] == name)
    made = sp_hf.pretrain(
        "vit-micro-8",
        [entry],
        "part-scenes?size=112&num_images=640&variant=class-textures",
        output_dir=tmp_path / "run",
        image_size=64,
        canvas_size=112,
        per_device_train_batch_size=IMAGES,
        max_steps=100,
        learning_rate=1e-3,
        warmup_steps=10,
        weight_decay=0.04,
        logging_steps=10,
        save_strategy="no",
        dataloader_num_workers=0,
        use_cpu=True,
    )
    lines = [json.loads(line) for line in RunFolder(made.output_dir).metrics.read_text().splitlines()]
    metric, least = ABOVE_CHANCE[name]
    values = [line[f"{name}/{metric}"] for line in lines if f"{name}/{metric}" in line]
    assert max(values[-3:]) > least, values
