"""transformers' own flags do what they say here too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sp_hf.cli import main


def pretrain(recipe: Path, output: Path, *flags: str) -> dict[str, torch.Tensor]:
    assert main(["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags]) == 0
    return load_file(output / "pretraining" / "model.safetensors")


def losses(output: Path) -> list[float]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records if "learning_rate" in r]


def test_gradient_checkpointing_changes_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    plain = pretrain(tiny_recipe, tmp_path / "plain")
    saved = pretrain(tiny_recipe, tmp_path / "saved", "--gradient_checkpointing")
    for name, value in plain.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-4, atol=1e-6)


def test_bf16_stays_close(tiny_recipe: Path, tmp_path: Path) -> None:
    pretrain(tiny_recipe, tmp_path / "plain", "--logging_steps", "1")
    pretrain(tiny_recipe, tmp_path / "half", "--logging_steps", "1", "--bf16")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "plain"), rel=0.03)
    assert losses(tmp_path / "half") != losses(tmp_path / "plain")


def test_accumulation_counts_the_whole_batch(tiny_recipe: Path, tmp_path: Path) -> None:
    """Two halves are one batch: no objective here has statistics over the batch but DINO's centre, which waits."""
    flags = ("--optim", "sgd", "--learning_rate", "0.02")
    whole = pretrain(tiny_recipe, tmp_path / "whole", *flags)
    halves = ("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2")
    parts = pretrain(tiny_recipe, tmp_path / "parts", *flags, *halves)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_chosen_for_student_and_teacher(
    tiny_recipe: Path, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sp_hf.run.recipe import parse_run
    from sp_hf.training.building import build_model

    fused_calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: object, **kwargs: object) -> torch.Tensor:
        fused_calls.append(None)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model = build_model(parse_run(["--recipe", str(tiny_recipe), "--attn_implementation", attention])[0])
    for tower in (model.encoder, model.teacher):
        fused_calls.clear()
        tower(torch.rand(2, 3, 16, 16))
        assert len(fused_calls) == (2 if attention == "sdpa" else 0)  # one a layer


def test_attention_is_in_the_runs_recipe(tiny_recipe: Path, tmp_path: Path) -> None:
    pretrain(tiny_recipe, tmp_path / "plain", "--max_steps", "2")
    pretrain(tiny_recipe, tmp_path / "eager", "--max_steps", "2", "--attn_implementation", "eager")
    recipes = {name: yaml.safe_load((tmp_path / name / "recipe.yaml").read_text()) for name in ("plain", "eager")}
    assert recipes["eager"]["attn_implementation"] == "eager"
    assert "attn_implementation" not in recipes["plain"]


def test_unknown_attention_is_one_clear_line(tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--output_dir", str(tmp_path / "out"), "--attn_implementation", "eagre"]
    assert main(["pretrain", "--recipe", str(tiny_recipe), *flags]) == 1
    error = capsys.readouterr().err
    assert "'eagre' of ViTModel" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_weight_decay_spares_vectors(tiny_recipe: Path, tmp_path: Path) -> None:
    from sp_hf.run.recipe import parse_run
    from sp_hf.training.building import build_model
    from sp_hf.training.trainer import PretrainingTrainer

    model = build_model(parse_run(["--recipe", str(tiny_recipe)])[0])
    decayed = PretrainingTrainer.get_decay_parameter_names(None, model)
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    assert all((name in decayed) == (ndim > 1) for name, ndim in shapes.items())
    assert {1, 2} <= set(shapes.values())


@pytest.mark.slow
def test_compiled_run_stays_close(tiny_recipe: Path, tmp_path: Path) -> None:
    plain = pretrain(tiny_recipe, tmp_path / "plain")
    compiled = pretrain(tiny_recipe, tmp_path / "compiled", "--torch_compile")
    assert plain.keys() == compiled.keys()
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
