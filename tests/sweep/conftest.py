"""A sweep that has been collected, made by hand: two frameworks, each with and without an addition, two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

OWN = "spatial_prediction/r2_position"

RECIPE = {
    "encoder": "vit-micro-8",
    "image_size": 32,
    "dataset": "part-scenes?size=64&num_images=64",
    "objectives": [
        {"name": "dino", "prototypes": 64},
        {"name": "spatial_prediction", "weight": 0.5, "views": {"count": 2, "size": 24, "area": [0.1, 0.4]}},
    ],
}
SWEEP = {
    "title": "Tiny",
    "seeds": [0, 1],
    "runs": {
        "A": {"recipe": "base.yaml", "objectives": ["dino"]},
        "A + SP": {"recipe": "base.yaml"},
        "A, then SP": {"recipe": "base.yaml", "encoder": "run:A", "num_train_epochs": 1},
    },
    "evaluate": {"tasks": ["relative-geometry", "knn"], "max_images": 60, "no_cache": True},
    "evaluations": [["A", "A + SP", "A, then SP"]],
    "measures": {"relative-geometry/r2_position": "R2 of position", "knn/accuracy": "kNN"},
    "expect": {"relative-geometry/r2_position": "higher", "knn/accuracy": {"not_below": 0.01}},
}


@pytest.fixture
def write_sweep(tmp_path: Path):
    """Writes a sweep and its recipe; keyword arguments replace keys of ``SWEEP`` (``None`` removes one)."""

    def write(recipe: dict[str, Any] = RECIPE, **changes: Any) -> Path:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(recipe))
        content = {key: value for key, value in {**SWEEP, **changes}.items() if value is not None}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return tmp_path / "tiny.yaml"

    return write


def evaluation(seed: int, position: dict[str, float], accuracy: dict[str, float], half: float = 0.01) -> dict[str, Any]:
    """One evaluation; its reference is the first run. ``half`` is the half-width of differences over images."""

    def measure(value: float, percent: bool, chance: float) -> dict[str, Any]:
        facts = {"percent": percent, "higher_is_better": True, "chance": chance}
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50, **facts}

    def task(kind: str, metric: str, values: dict[str, float], percent: bool, chance: float) -> dict[str, Any]:
        reference = values["A"]
        return {
            "kind": kind,
            "settings": {},
            "results": {name: {metric: measure(value, percent, chance)} for name, value in values.items()},
            "differences": {
                name: {metric: {"value": v - reference, "low": v - reference - half, "high": v - reference + half}}
                for name, v in values.items()
                if name != "A"
            },
        }

    roles = {"random initialisation": "random"}
    return {
        "seed": seed,
        "command": "sp-hf evaluate A",
        "models": [
            {"name": name, "role": roles.get(name, "model"), "architecture": "ViT", "identity": name}
            for name in position
        ],
        "reference": "A",
        "data": {side: {"description": "part-scenes", "images": 50} for side in ("train", "validation")},
        "tasks": {
            "relative-geometry": task("where", "r2_position", position, False, 0.0),
            "knn": task("what", "accuracy", accuracy, True, 0.1),
        },
    }


@pytest.fixture
def found() -> dict[str, Any]:
    """SP adds 0.1 to position in both seeds, and takes 30 points of kNN."""
    random = "random initialisation"
    one = {"environment": {"devices": ["cpu"], "threads": 1}, "steps": 10, "images": 600, "last": {"loss": 1.0}}
    run = {"options": {}, "seeds": {str(s): {**one, "seconds": 30.0, "cpu_seconds": 60.0} for s in (0, 1)}}
    added = {"options": {}, "seeds": {s: v | {"last": {OWN: 0.2 + int(s) / 5}} for s, v in run["seeds"].items()}}
    return {
        "runs": {"A": run, "A + SP": added, "A, then SP": {"options": {}, "seeds": {}}},
        "evaluations": [
            evaluation(0, {random: 0.05, "A": 0.1, "A + SP": 0.2}, {random: 0.2, "A": 0.6, "A + SP": 0.3}),
            evaluation(1, {random: 0.07, "A": 0.2, "A + SP": 0.3}, {random: 0.2, "A": 0.7, "A + SP": 0.4}),
        ],
    }
