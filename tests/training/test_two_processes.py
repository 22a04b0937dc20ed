"""Two processes on half the batch each end where one process on the whole batch ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel
from warm import SCRIPT, run_two

from sp_hf.cli import main

from .conftest import OBJECTIVES, tiny_options
from .runs import RESULTS, assert_same_results, copy_without

FSDP = Path(__file__).with_name("fsdp_on_cpu.py")


def launch(recipe: Path, output: Path, *flags: str, script: Path = SCRIPT) -> None:
    """In two processes."""
    run_two(["--recipe", str(recipe), "--output_dir", str(output), *flags], output.with_suffix(".log"), script)


def history(output: Path) -> list[dict]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if "learning_rate" in r]


@pytest.fixture
def recipe(tmp_path: Path, tiny_encoder: Path) -> Path:
    """DINO, MoCo v3 and SP together, by plain SGD: Adam would blow rounding up to the size of a step."""
    names = ("dino", "moco_v3", "spatial_prediction")
    options = tiny_options(tiny_encoder) | {
        "objectives": [{"name": name, **OBJECTIVES[name]} for name in names],
        "teacher_momentum": [0.9, 1.0],
        "optim": "sgd",
        "learning_rate": 0.02,
        "logging_steps": 1,
        "max_steps": 6,
    }
    path = tmp_path / "two.yaml"
    path.write_text(json.dumps(options))
    return path


def test_two_processes_equal_one(recipe: Path, tmp_path: Path) -> None:
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(tmp_path / "one")]) == 0
    launch(recipe, tmp_path / "two", "--per_device_train_batch_size", "2")
    one, two = (load_file(tmp_path / name / "pretraining" / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    for ours, theirs in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["embedding_std"] == pytest.approx(theirs["embedding_std"], rel=1e-2)
    processes = [json.loads((tmp_path / name / "environment.json").read_text())["processes"] for name in ("one", "two")]
    assert processes == [1, 2]


@pytest.mark.fault("two processes: a checkpoint is damaged, the export is lost")
def test_two_processes_resume_exactly(recipe: Path, tmp_path: Path) -> None:
    """Each process goes on in its own part of the stream, past a damaged checkpoint, and makes a lost export."""
    flags = ("--streaming", "--images_per_epoch", "16", "--per_device_train_batch_size", "2")
    flags += ("--save_steps", "3", "--save_total_limit", "9")
    launch(recipe, tmp_path / "whole", *flags)
    copy_without(tmp_path / "whole", tmp_path / "broken", *RESULTS)
    weights = tmp_path / "broken" / "checkpoint-6" / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    launch(recipe, tmp_path / "broken", *flags, "--resume", "auto")
    assert (tmp_path / "broken" / "damaged-checkpoint-6").is_dir()
    assert_same_results(tmp_path / "broken", tmp_path / "whole")
    for name in RESULTS:
        path = tmp_path / "broken" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    launch(recipe, tmp_path / "broken", *flags, "--resume", "auto")
    assert_same_results(tmp_path / "broken", tmp_path / "whole")


@pytest.mark.slow  # five processes start
def test_two_processes_share_the_weights(recipe: Path, tmp_path: Path) -> None:
    """FSDP: the losses of one process; a checkpoint resumes exactly, also while DINO's last layer is frozen."""
    options = json.loads(recipe.read_text())
    del options["optim"]  # AdamW, whose state is shared too; small steps, as it blows rounding up to their size
    recipe.write_text(json.dumps(options | {"learning_rate": 2e-4, "save_steps": 3}))
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(tmp_path / "one")]) == 0
    flags = ("--per_device_train_batch_size", "2", "--fsdp", "full_shard")
    launch(recipe, tmp_path / "two", *flags, script=FSDP)
    for ours, theirs in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert (tmp_path / "two" / "checkpoint-3" / "pytorch_model_fsdp.bin").is_file()  # it did shard
    AutoModel.from_pretrained(tmp_path / "two" / "encoder")
    shutil.copytree(tmp_path / "two", tmp_path / "again")
    for folder in ("checkpoint-6", "encoder", "pretraining"):
        shutil.rmtree(tmp_path / "again" / folder)
    launch(recipe, tmp_path / "again", *flags, "--resume_from_checkpoint", "last", script=FSDP)
    whole, again = (load_file(tmp_path / name / "pretraining" / "model.safetensors") for name in ("two", "again"))
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


def test_rates_and_clipping_of_shared_weights(recipe: Path, tmp_path: Path) -> None:
    """FSDP: each parameter's rate, and its gradient's norm over all processes, are those of one process."""
    flags = ["--layer_decay", "0.5", "--patch_embedding_factor", "0.2", "--grad_clipping", "per_parameter"]
    flags += ["--max_grad_norm", "0.01", "--learning_rate", "0.2", "--save_steps", "9"]
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(tmp_path / "one"), *flags]) == 0
    shared = (*flags, "--per_device_train_batch_size", "2", "--fsdp", "full_shard")
    launch(recipe, tmp_path / "two", *shared, script=FSDP)
    one, two = (load_file(tmp_path / name / "pretraining" / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
