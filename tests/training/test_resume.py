"""A killed run that is resumed equals one that was never interrupted, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import warm
from safetensors.torch import load_file

TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")


def command(recipe: Path, output: Path, *flags: str) -> list[str]:
    return ["pretrain", "--recipe", str(recipe), "--output_dir", str(output), *flags]


def run(recipe: Path, output: Path, *flags: str) -> None:
    warm.run(command(recipe, output, *flags), output.with_suffix(".log"))


def kill_after(recipe: Path, output: Path, step: int, *flags: str) -> None:
    """Start the run and kill -9 it as soon as it has logged ``step`` and has a checkpoint."""
    process = warm.start(command(recipe, output, *flags), output.with_suffix(".log")).process
    deadline = time.monotonic() + 1500
    while time.monotonic() < deadline:
        assert process.is_alive(), "the run ended before it could be killed"
        if logged(output) >= step and any(output.glob("checkpoint-*")):
            process.kill()
            process.join()
            return
        time.sleep(0.002)
    process.kill()
    pytest.fail(f"step {step} was not reached")


def logged(output: Path) -> int:
    path = output / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1])["step"] if lines else -1


def history(output: Path) -> list[dict]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in TIMES} for r in records]


@pytest.mark.fault("kill -9 between two steps")
@pytest.mark.parametrize("flags", [(), ("--streaming", "--images_per_epoch", "16")], ids=["map-style", "streaming"])
def test_killed_and_resumed_run_equals_the_uninterrupted_one(tiny_recipe: Path, tmp_path: Path, flags: tuple) -> None:
    flags = ("--max_steps", "40", "--save_steps", "5", "--gradient_accumulation_steps", "2", *flags)
    flags += ("--dataloader_num_workers", "2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(tiny_recipe, whole, *flags)
    kill_after(tiny_recipe, broken, 9, *flags)
    assert not (broken / "pretraining").exists()
    assert logged(broken) < 40
    run(tiny_recipe, broken, *flags, "--resume_from_checkpoint", "last")

    ours, theirs = (load_file(folder / "pretraining" / "model.safetensors") for folder in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("teacher.") for name in ours)
    assert any("centre" in name for name in ours)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    states = [torch.load(f / "checkpoint-40" / "optimizer.pt", weights_only=True)["state"] for f in (broken, whole)]
    assert states[0].keys() == states[1].keys()
    for key, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][key][name]), (key, name)
    assert history(broken) == history(whole)


@pytest.mark.fault("Ctrl-C or SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_run_says_how_to_go_on(tiny_recipe: Path, tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "run"
    flags = ("--max_steps", "5000", "--save_steps", "4000", "--logging_steps", "1", "--dataloader_num_workers", "1")
    running = warm.start(command(tiny_recipe, output, *flags), output.with_suffix(".log"))
    while logged(output) < 2 and running.process.is_alive():
        time.sleep(0.05)
    os.killpg(running.process.pid, number)  # as a terminal and a scheduler do: workers get it too
    status, text = running.wait(), running.said
    assert status == 128 + number, text
    assert number.name in text and "--resume auto" in text
    checkpoint = next(output.glob("checkpoint-*"))
    assert (checkpoint / "trainer_state.json").is_file() and (checkpoint / "optimizer.pt").is_file()
    assert "Traceback" not in text
