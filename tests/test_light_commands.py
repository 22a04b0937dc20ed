"""Help and a refused command line need neither PyTorch nor transformers: they would take seconds to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sp_hf.cli import COMMANDS

PROGRAM = """
import contextlib, io, json, logging, sys
from sp_hf.cli import main
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    logging.root.handlers.clear()  # of the line before
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(line)
        except SystemExit as stop:
            status = stop.code or 0
    heavy = sorted({"torch", "transformers", "datasets", "gradio", "scipy", "matplotlib"} & set(sys.modules))
    print(json.dumps([status, said.getvalue(), heavy]))
"""


def outcomes(lines: list[list[str]]) -> list[tuple[int, str, list[str]]]:
    """Of each command line, all in one fresh process: exit status, what was said, heavy packages imported so far."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_help_of_every_command_imports_nothing_heavy():
    for command, (status, said, heavy) in zip(COMMANDS, outcomes([[c, "--help"] for c in COMMANDS]), strict=True):
        assert (status, heavy) == (0, []), f"{command} imports {heavy}"
        assert said.startswith(f"usage: sp-hf {command}") and len(said.splitlines()) > 5


def test_what_is_refused_is_refused_before_anything_heavy_is_imported(tmp_path: Path):
    recipe = tmp_path / "odd.yaml"
    recipe.write_text("learnin_rate: 1\n")
    objective = tmp_path / "objective.yaml"
    objective.write_text("objectives: [{name: dino, prototype: 8}]\n")
    value, views = tmp_path / "value.yaml", tmp_path / "views.yaml"
    value.write_text("objectives: [{name: dino, prototypes: -1}]\n")
    views.write_text("objectives: [{name: mae, views: {area: [0.5, 0.1]}}]\n")
    lines = {
        "pretrain --learnin_rate 1": (2, "did you mean '--learning_rate'"),
        "pretrain --max_steps few": (2, "invalid int value: 'few'"),
        "pretrain --optim adamm": (2, "invalid choice: 'adamm'"),
        "pretrain --learning_rate nan": (1, "--learning_rate is nan"),
        "pretrain --deepspeed x.json": (1, "--deepspeed x.json has no effect here"),
        "pretrain --recipe nowhere.yaml": (1, "no recipe at nowhere.yaml"),
        f"pretrain --recipe {recipe}": (1, "unknown option 'learnin_rate'; did you mean 'learning_rate'"),
        "pretrain --objectives dyno": (1, "unknown objective 'dyno' (did you mean 'dino'?)"),
        "pretrain --objectives dino=0": (1, "weight is 0.0; it must be greater than 0"),
        f"pretrain --recipe {objective}": (1, "'dino' has no option 'prototype' (did you mean 'prototypes'?)"),
        f"pretrain --recipe {value}": (1, "objective 'dino': prototypes is -1; it must be at least 1"),
        f"pretrain --recipe {views}": (1, "objective 'mae': area is (0.5, 0.1); it must be (low, high)"),
        "pretrain --encoder vit-micro": (1, "unknown encoder 'vit-micro'"),
        "pretrain --encoder ./nowhere": (1, "no folder ./nowhere"),
        "pretrain --dataset no/such/folder": (1, "no such file or folder: 'no/such/folder'"),
        "pretrain --validation_dataset ./x.parquet": (1, "no such file or folder: './x.parquet'"),
        "evaluate vit-micro-8 --tasks knn knm": (1, "unknown task knm"),
        "evaluate vit-micro-8 A=vit-micro": (1, "unknown encoder 'vit-micro'"),
        "evaluate vit-micro-8 --dataset ./x.parquet": (1, "no such file or folder: './x.parquet'"),
        "export ./nowhere out": (1, "no run at ./nowhere"),
        "push ./nowhere me/mine": (1, "no run at ./nowhere"),
        "sweep ./nowhere.yaml": (1, "no recipe at nowhere.yaml"),
        "evaluate vit-micro-8 --knn_neighbors 3": (2, "did you mean '--knn_neighbours'"),
        "evaluate vit-micro-8 --seed one": (2, "invalid int value: 'one'"),
        "evaluate": (2, "required: MODEL"),
        "evaluate vit-micro-8 --push_results me/mine": (1, "--push_results needs --output_dir"),
        "evaluate vit-micro-8 --benchmark lab/where-bench": (1, "needs --push_results"),
        "where-bench": (2, "required: repo"),
        "where-bench mine": (2, "mine is no dataset's owner/name"),
        "export run": (2, "required: directory"),
        "push run": (2, "required: repo"),
        "sweep": (2, "required: file"),
        "demo --port http": (2, "invalid int value: 'http'"),
        "demo --scenes 0": (1, "--scenes is 0"),
    }
    found = outcomes([line.split() for line in lines])
    for (line, (status, message)), (actual, said, heavy) in zip(lines.items(), found, strict=True):
        assert (actual, heavy) == (status, []) and message in said, f"{line}: {actual}, {said!r}, imports {heavy}"
        assert len(said.strip().splitlines()) == 1


def test_objectives_of_every_recipe_pass_the_quick_look():
    """As read from source, classes have the options that they have."""
    program = """
import pathlib, sys
from sp_hf.run.names import check_objectives
from sp_hf.run.recipe_file import as_list, read_recipe
for path in pathlib.Path(sys.argv[1]).glob("*.yaml"):
    check_objectives(as_list(read_recipe(path).get("objectives") or []), [])
assert "torch" not in sys.modules
"""
    recipes = Path(__file__).parents[1] / "recipes"
    done = subprocess.run([sys.executable, "-c", program, str(recipes)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_hyphens_and_old_names_are_taken_by_every_command():
    """Each line is refused for what stands last in it, so its other flags were taken."""
    last = ["--no-such-flag"]
    lines = [
        ["pretrain", "--dataset-split", "a", "--validation-split", "b", "--max_steps", "1", "--max-steps", "2"],
        ["evaluate", "m", "--dataset-split", "a", "--split", "b", "--knn-neighbours", "1", "--knn_neighbours=2"],
        ["sweep", "f", "--dataset-split", "a", "--validation-dataset-split=b", "--output-dir", "c"],
        ["export", "a", "b", "--teacher"],
        ["push", "a", "b", "--create-pr", "--dry_run", "--no-card"],
        ["demo", "--port", "1", "--host", "h"],
    ]
    for line, (status, said, _) in zip(lines, outcomes([line + last for line in lines]), strict=True):
        assert status == 2 and "unknown flag '--no-such-flag'" in said, f"{line}: {said}"
    old = outcomes([["pretrain", "--validation-split", "a", *last], ["evaluate", "m", "--split", "a", *last]])
    for (_, said, _), name in zip(old, ("validation_dataset_split", "dataset_split"), strict=True):
        assert f"is now called --{name}" in said
