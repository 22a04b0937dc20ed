"""Runs with every option of optimisation: recorded, resumed exactly, the stock class in the end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sp_hf.cli import main
from sp_hf.encoders.encoder import Encoder
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.optimisation.stochastic_depth import DropPath
from sp_hf.run.recipe import parse_run
from sp_hf.training.building import build_model, prepare_student

OPTIONS = ("--stochastic_depth", "0.5", "--layer_decay", "0.8", "--patch_embedding_factor", "0.2", "--freeze")
OPTIONS += ("layers:1", "--grad_clipping", "per_parameter", "--max_grad_norm", "0.05")


def pretrain(recipe: Path, output: Path, *flags: str) -> dict[str, torch.Tensor]:
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags]) == 0
    return load_file(output / "pretraining" / "model.safetensors")


def trained(output: Path) -> dict[str, torch.Tensor]:
    """A finished run's parameters under their names in the model."""
    return dict(SPForPreTraining.from_pretrained(output / "pretraining").named_parameters())


@pytest.fixture
def fresh(tiny_recipe: Path) -> dict[str, torch.Tensor]:
    """The weights that a run starts from."""
    torch.manual_seed(3)
    return {
        name: value.clone()
        for name, value in build_model(parse_run(["--recipe", str(tiny_recipe)])[0]).named_parameters()
    }


@pytest.mark.parametrize("flags", [(), ("--streaming", "--images_per_epoch", "16")], ids=["map-style", "streaming"])
def test_resumed_in_an_epoch_and_between_two(tiny_recipe: Path, tmp_path: Path, flags: tuple) -> None:
    flags = (*flags, *OPTIONS, "--save_steps", "1", "--save_total_limit", "9")
    whole = pretrain(tiny_recipe, tmp_path / "whole", *flags)
    assert "teacher.model.layernorm.weight" in whole
    for step in (3, 4):  # of four an epoch
        broken = tmp_path / f"from-{step}"
        broken.mkdir()
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", broken / f"checkpoint-{step}")
        resumed = pretrain(tiny_recipe, broken, *flags, "--resume_from_checkpoint", "last")
        assert all(torch.equal(resumed[name], value) for name, value in whole.items()), step


def test_dropped_branches_are_the_same_when_recomputed(tiny_recipe: Path, tmp_path: Path) -> None:
    flags = ("--stochastic_depth", "0.5", "--max_steps", "3")
    plain = pretrain(tiny_recipe, tmp_path / "plain", *flags)
    saved = pretrain(tiny_recipe, tmp_path / "saved", *flags, "--gradient_checkpointing")
    without = pretrain(tiny_recipe, tmp_path / "without", "--max_steps", "3")
    for name, value in plain.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(without[name], value) for name, value in plain.items())


def test_only_the_student_drops(tiny_recipe: Path) -> None:
    model_args, _, args = parse_run(["--recipe", str(tiny_recipe), "--stochastic_depth", "0.3"])
    model = build_model(model_args)
    prepare_student(model, args)
    model.train()
    drops = [[m.rate for m in tower.modules() if isinstance(m, DropPath)] for tower in (model.encoder, model.teacher)]
    assert drops == [[0.0, 0.3], []]


def test_groups_of_a_run(tiny_recipe: Path, tmp_path: Path, fresh: dict) -> None:
    """Every decayed group follows the schedule of weight decay; frozen weights stay; the export is stock."""
    pretrain(tiny_recipe, tmp_path / "out", *OPTIONS, "--learning_rate", "0.01")
    weights = trained(tmp_path / "out")
    groups = torch.load(tmp_path / "out" / "checkpoint-8" / "optimizer.pt", weights_only=True)["param_groups"]
    assert sorted({round(g["initial_lr"] / 0.01, 6) for g in groups}) == [0.8, 1.0]  # layers:1 leaves the second layer
    decayed = [g["weight_decay"] for g in groups if g["weight_decay"] > 0]
    assert len(decayed) == 2 and len(groups) == 4
    assert len(set(decayed)) == 1 and 0.3 < decayed[0] < 0.4
    for name, value in fresh.items():
        frozen = ".embeddings." in name or ".layers.0." in name
        if name.startswith("encoder."):
            assert torch.equal(weights[name], value) == frozen, name
    exported = Encoder.load(tmp_path / "out" / "encoder")
    assert type(exported.model).__name__ == "ViTModel"
    assert not any(isinstance(module, DropPath) for module in exported.modules())


@pytest.mark.parametrize("clipping", ["global", "per_parameter"])
def test_clipped_steps(tiny_recipe: Path, tmp_path: Path, fresh: dict, clipping: str) -> None:
    """One step of plain gradient descent at rate 1 is the clipped gradient."""
    flags = ("--optim", "sgd", "--learning_rate", "1", "--warmup_steps", "0", "--max_steps", "1", "--weight_decay", "0")
    flags += ("--weight_decay_end", "0", "--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "{}")
    pretrain(tiny_recipe, tmp_path / "out", *flags, "--grad_clipping", clipping, "--max_grad_norm", "0.02")
    weights = trained(tmp_path / "out")
    steps = {n: (weights[n] - v).norm() for n, v in fresh.items() if n.startswith("encoder.")}
    at_limit = [n for n, step in steps.items() if abs(step - 0.02) < 1e-4]
    assert all(step < 0.0201 for step in steps.values())
    assert len(at_limit) >= 5 if clipping == "per_parameter" else sum(s**2 for s in steps.values()) < 0.0201**2
    assert clipping == "per_parameter" or not at_limit


def test_the_rate_is_recorded_with_its_base(tiny_recipe: Path, tmp_path: Path) -> None:
    flags = ("--max_steps", "1", "--base_learning_rate", "0.064", "--gradient_accumulation_steps", "2")
    pretrain(tiny_recipe, tmp_path / "out", *flags)
    recipe = tmp_path / "out" / "recipe.yaml"
    recorded = yaml.safe_load(recipe.read_text())
    assert recorded["base_learning_rate"] == 0.064
    assert recorded["learning_rate"] == pytest.approx(0.064 * 8 / 256)
    again = parse_run(["--recipe", str(recipe)])[2]
    assert again.describe_learning_rate() == "learning rate 0.002 = 0.064 x 8 / 256 images a step"


def test_a_mistake_is_one_clear_line(tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ("--output_dir", str(tmp_path / "out"), "--freeze", "layers:3")
    assert main(["pretrain", "--recipe", str(tiny_recipe), *flags]) == 1
    error = capsys.readouterr().err
    assert "--freeze layers:3: ViTModel has 2 layers" in error and "Traceback" not in error
