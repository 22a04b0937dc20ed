"""A run that diverges stops with one sentence, and saves nothing of it over what was good."""

from __future__ import annotations

import json
import math
import multiprocessing
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sp_hf.model.modeling import SPForPreTraining
from sp_hf.training.health import Health, finite_or_zero, leave_out, not_finite
from sp_hf.training.monitoring import RunningMeans
from sp_hf.training.processes import in_first_process
from sp_hf.training.trainer import PretrainingTrainer

from .runs import STREAM, assert_same_results, pretrain, write_recipe

CPU = torch.device("cpu")
NAN, INF = torch.tensor(math.nan), torch.tensor(math.inf)
ONE = torch.tensor(1.0)


def test_bad_steps_are_counted_in_a_row() -> None:
    health = Health(CPU, 3)
    counts = []
    for losses, norm in [([ONE], ONE), ([NAN], ONE), ([ONE, INF, ONE], ONE), ([ONE], INF), ([ONE], ONE), ([ONE], NAN)]:
        for loss in losses:  # of the forwards that a step accumulates
            health.add_loss(loss)
        health.end_step(norm)
        counts.append(health.read())
    assert counts == [0, 1, 2, 3, 0, 1]


def test_a_step_without_numbers_is_left_out() -> None:
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    parameters[0].grad = torch.tensor([1.0, math.nan])
    leave_out(parameters, ONE)
    assert parameters[0].grad[0] == 1
    leave_out(parameters, NAN)
    assert parameters[0].grad.tolist() == [0, 0] and parameters[1].grad is None
    assert [finite_or_zero(loss).item() for loss in (NAN, INF, ONE)] == [0, 0, 1]


def test_no_step_waits_for_the_device() -> None:
    """On a device that holds no values, looking at one is an error."""
    there = torch.device("meta")
    health, value = Health(there, 3), torch.ones((), device=there)
    parameter = nn.Parameter(torch.ones(2, device=there))
    parameter.grad = torch.ones(2, device=there)
    for _ in range(2):
        health.add_loss(value)
        health.end_step(value)
        leave_out([parameter], value)
        finite_or_zero(value)
    with pytest.raises(RuntimeError, match="meta"):
        health.read()


def test_what_is_not_finite_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    model.register_buffer("mask", torch.tensor(-math.inf), persistent=False)  # is meant so, and saved by nobody
    assert not_finite(model, optimizer) is None
    optimizer.state[model[0].bias]["exp_avg_sq"][1] = math.inf
    assert not_finite(model, optimizer) == "0.bias (exp_avg_sq of the optimizer)"
    model[1].running_mean[0] = math.nan
    assert not_finite(model, optimizer) == not_finite(model) == "1.running_mean"
    model[0].weight.data[0, 0] = math.nan
    assert not_finite(model) == "0.weight"


def test_means_leave_out_what_is_no_number() -> None:
    means = RunningMeans()
    for value in (ONE, NAN, 3 * ONE):
        means.add({"loss": value, "never": INF})
    again = RunningMeans()
    again.load_state_dict(json.loads(json.dumps(means.state_dict())))
    for each in (means, again):
        found = each.pop()
        assert found["loss"] == 2 and math.isnan(found["never"])


# In a run --------------------------------------------------------------------------------------------------------


def spoil(monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...], factor: float) -> None:
    """Multiply the loss of some steps, counted from 1."""
    forward = SPForPreTraining.forward
    trained = {"step": 0}

    def spoiled(self: SPForPreTraining, *args: object, **kwargs: object) -> object:
        outputs = forward(self, *args, **kwargs)
        if self.training:
            trained["step"] += 1
            if trained["step"] in steps:
                outputs.loss = outputs.loss * factor
        return outputs

    monkeypatch.setattr(SPForPreTraining, "forward", spoiled)


def is_finite(folder: Path) -> bool:
    return all(value.isfinite().all() for value in load_file(folder / "model.safetensors").values())


@pytest.mark.fault("loss, gradients, weights or outputs are no longer finite")
@pytest.mark.parametrize("options", [{}, STREAM], ids=["map-style", "streaming"])
def test_a_rate_beyond_all_bounds_loses_no_good_checkpoint(
    tmp_path: Path, tiny_encoder: Path, options: dict, capsys: pytest.CaptureFixture
) -> None:
    recipe = write_recipe(tmp_path, tiny_encoder, **options, max_steps=20, save_steps=1, save_total_limit=1)
    run = tmp_path / "run"
    assert pretrain(recipe, run, "--learning_rate", "1e30", "--max_grad_norm", "0") == 1
    error = capsys.readouterr().err
    assert error.count("sp-hf: error:") == 1 and "Traceback" not in error
    (kept,) = run.glob("checkpoint-*")
    assert "lower --learning_rate (now 1e+30)" in error.lower() and "docs/troubleshooting.md#loss-is-nan" in error
    assert f"the last good checkpoint is {kept}" in error and is_finite(kept)
    assert not (run / "encoder").exists() and not (run / "pretraining").exists()
    flags = ("--learning_rate", "1e-4", "--max_grad_norm", "3", "--max_steps", "3", "--allow_changes")
    assert pretrain(recipe, run, *flags, "--resume", "auto") == 0  # it is of use
    assert is_finite(run / "encoder")


@pytest.mark.fault("loss, gradients, weights or outputs are no longer finite")
def test_one_bad_step_is_outlived(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, (4,), math.nan)  # a save is due then
    recipe, run = write_recipe(tmp_path, tiny_encoder), tmp_path / "run"
    assert pretrain(recipe, run) == 0
    assert caplog.text.count("step 4: ") == 1 and "the step is left out" in caplog.text
    assert {path.name for path in run.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-5", "checkpoint-6"}
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "learning_rate" in line] == [1, 2, 3, 4, 5, 6]
    assert "loss" not in lines[3] and "loss" in lines[4] and math.isfinite(lines[-1]["train_loss"])
    assert is_finite(run / "encoder")


@pytest.mark.fault("loss, gradients, weights or outputs are no longer finite")
def test_without_log_lines_and_saves_no_nan_is_exported(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    spoil(monkeypatch, (5, 6), math.inf)  # fewer than --max_bad_steps, up to the end
    options = {"logging_strategy": "no", "save_strategy": "no"}
    recipe, run = write_recipe(tmp_path, tiny_encoder, **options), tmp_path / "run"
    assert pretrain(recipe, run) == 1
    assert "the last good step is 4, and there is no good checkpoint" in capsys.readouterr().err
    assert not (run / "encoder").exists()


@pytest.mark.fault("loss, gradients, weights or outputs are no longer finite")
def test_weights_that_the_last_step_broke_are_not_exported(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Finite ones, which only a forward betrays."""
    save = PretrainingTrainer._save_checkpoint

    def broken(self: PretrainingTrainer, *args: object) -> None:
        if self.state.global_step == 6:
            for parameter in self.pretraining.encoder.parameters():
                parameter.data.fill_(3e38)
        save(self, *args)

    recipe, run = write_recipe(tmp_path, tiny_encoder), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(PretrainingTrainer, "_save_checkpoint", broken)
        assert pretrain(recipe, run) == 1
    error = capsys.readouterr().err
    assert "the encoder's output is not finite" in error and f"the last good checkpoint is {run}/checkpoint-4" in error
    assert not (run / "encoder").exists() and (run / "diverged-checkpoint-6").is_dir()
    assert pretrain(recipe, run, "--resume", "auto") == 0
    assert pretrain(recipe, tmp_path / "whole") == 0
    assert_same_results(run, tmp_path / "whole")


@pytest.mark.fault("loss, gradients, weights or outputs are no longer finite")
def test_a_state_that_is_not_finite_is_not_saved(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A centre may break without the loss of its own step."""
    after = SPForPreTraining.after_optimizer_step

    def broken(self: SPForPreTraining, progress: object) -> None:
        after(self, progress)
        if progress.step == 3:
            next(value for name, value in self.named_buffers() if "centre" in name).fill_(math.nan)

    monkeypatch.setattr(SPForPreTraining, "after_optimizer_step", broken)
    recipe, run = write_recipe(tmp_path, tiny_encoder), tmp_path / "run"
    assert pretrain(recipe, run) == 1
    error = capsys.readouterr().err
    assert "centre" in error and f"the last good checkpoint is {run}/checkpoint-2" in error
    assert [path.name for path in run.glob("*checkpoint-*")] == ["checkpoint-2"]


# In two processes -------------------------------------------------------------------------------------------------


def _one_of_two(rank: int, address: str, results: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    args = types.SimpleNamespace(world_size=2, process_index=rank)
    health = Health(CPU, 3)
    for step in range(4):
        health.add_loss(NAN if rank == 1 and step > 1 else ONE)  # one process alone sees it
        health.end_step(ONE)
    found = [health.read()]
    for work in (lambda: rank, lambda: 1 // 0):
        try:
            found.append(in_first_process(args, work))
        except ZeroDivisionError as error:
            found.append(str(error))
    results.put((rank, found))
    torch.distributed.destroy_process_group()


@pytest.mark.fault("loss, gradients, weights or outputs are no longer finite")
def test_what_one_process_sees_all_know(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    address = f"file://{tmp_path}/rendezvous"
    processes = [context.Process(target=_one_of_two, args=(rank, address, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=100) for _ in processes)
    for process in processes:
        process.join()
    assert found[0] == found[1] == [2, 0, "integer division or modulo by zero"]
