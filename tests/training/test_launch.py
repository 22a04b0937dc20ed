"""accelerate on CPUs starts one process whatever it is asked for; the script sees to the others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sp_hf.errors import UsageError
from sp_hf.training.launch import missing_processes

from .runs import write_recipe

CPU = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
SCRIPT = Path(__file__).parents[2] / "scripts" / "pretrain.py"


@pytest.mark.parametrize(
    ("environment", "launcher", "missing"),
    [
        ({}, ["bash"], None),
        ({"ACCELERATE_USE_CPU": "True"}, ["accelerate", "launch", "--cpu", "x.py"], None),  # one, and asked for one
        (CPU, ["accelerate", "launch", "--cpu", "--num_processes", "2", "x.py"], 2),
        (CPU, ["accelerate", "launch", "--cpu", "--num-processes=3", "x.py"], 3),
        (CPU | {"RANK": "0"}, ["torchrun", "--nproc_per_node", "2"], None),
        (CPU | {"PMI_RANK": "0"}, ["mpirun"], None),
        (CPU | {"ACCELERATE_USE_CPU": "False"}, ["accelerate", "launch", "--num_processes", "2"], None),
    ],
)
def test_how_many_are_missing(environment: dict, launcher: list, missing: int | None) -> None:
    assert missing_processes(environment, launcher) == missing


def test_a_number_that_is_nowhere_is_asked_for() -> None:
    with pytest.raises(UsageError, match="torchrun --nproc_per_node N"):
        missing_processes(CPU, ["accelerate", "launch", "x.py"])


def test_accelerate_starts_two(tmp_path: Path, tiny_encoder: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_encoder, max_steps=1, per_device_train_batch_size=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--main_process_port", str(port), str(SCRIPT), "--recipe", str(recipe)]
    command += ["--output_dir", str(tmp_path / "run")]
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert (tmp_path / "run" / "checkpoint-1" / "1_of_2_pretraining_state.json").is_file()
