"""Tiny runs of the tests of resuming: six steps, which end in the middle of an epoch, a checkpoint every two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from sp_hf.cli import main

from .conftest import tiny_options

TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")
RESULTS = ("encoder", "pretraining", "finished.json")
STREAM = {"streaming": True, "images_per_epoch": 16}


def write_recipe(folder: Path, tiny_encoder: Path, **changes: object) -> Path:
    """Spatial Prediction and DINO on a tiny encoder, with changes."""
    options = {**tiny_options(tiny_encoder), "max_steps": 6, "save_total_limit": 9, "logging_steps": 1, **changes}
    path = folder / "six.yaml"
    path.write_text(json.dumps(options))
    return path


def pretrain(recipe: Path, output: Path, *flags: str) -> int:
    return main(["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags])


def copy_without(run: Path, copy: Path, *names: str) -> Path:
    """A copy of a run folder from which files and folders are gone."""
    shutil.copytree(run, copy)
    for name in names:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    return copy


def everything(run: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder: when it was written, and its bytes."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    return {str(path.relative_to(run)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def history(run: Path) -> list[dict]:
    """The log, without what differs between two runs of the same."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def assert_same_results(run: Path, other: Path) -> None:
    """The same weights bit for bit, the same log, and nothing half-written."""
    for place in ("pretraining/model.safetensors", "encoder/model.safetensors"):
        ours, theirs = load_file(run / place), load_file(other / place)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), f"{place}: {name}"
    assert history(run) == history(other)
    assert not list(run.glob(".incomplete*"))
