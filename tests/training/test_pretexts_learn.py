"""Where pretexts leave chance on their own tasks in a short run on PartScenes: what the recipe's header says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
import yaml

from sp_hf.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/part_scenes_where.yaml"
# By objective: flags, the metric, what chance gives (a number, or a metric that is logged beside it), by how much
# it must be beaten, in the mean over the last four log lines.
FINER = ["--image_size", "64", "--learning_rate", "1e-3", "--warmup_steps", "0.05", "--max_steps", "200"]
RUNS = {
    "relative_position": (FINER, "accuracy", 1 / 8, 0.03),
    "mp3": ([], "accuracy", 1 / 16, 0.015),
    "part": ([], "r2_position", 0.0, 0.015),
    "content_position": (
        ["--max_steps", "60", "--learning_rate", "1e-3"],
        "patch_accuracy",
        "patch_accuracy_prior",
        0.15,
    ),
}


def test_the_recipe_has_them():
    entries = yaml.safe_load((ROOT / RECIPE).read_text())["objectives"]
    names = {entry if isinstance(entry, str) else entry["name"] for entry in entries}
    assert names <= set(OBJECTIVES) and set(RUNS) <= names


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_it_leaves_chance(name, tmp_path):
    flags, metric, chance, margin = RUNS[name]
    command = [sys.executable, "-m", "sp_hf.cli", "pretrain", "--recipe", RECIPE, "--objectives", name]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path), *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if f"{name}/{metric}" in line][-4:]

    def found(what: str) -> float:
        return mean(line[f"{name}/{what}"] for line in last)

    floor = found(chance) if isinstance(chance, str) else chance
    assert found(metric) > floor + margin
