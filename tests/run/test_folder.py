"""What a run folder looks like, and that nobody else knows."""

import ast
import os
from pathlib import Path

import sp_hf
from sp_hf.run.folder import RunFolder

PACKAGE = Path(sp_hf.__file__).parent
FILES = (
    "metrics.jsonl",
    "recipe.yaml",
    "environment.json",
    "views.png",
    "curves.png",
    "diagnosis.json",
    "skipped_images.json",
)


def test_a_part_of_a_run_leads_to_the_run(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert RunFolder.of(run.pretraining) == RunFolder.of(run.checkpoint(7)) == RunFolder.of(run.path) == run
    assert RunFolder.of(tmp_path / "checkpoint-last").path == tmp_path / "checkpoint-last"


def test_checkpoints_are_sorted_by_step_and_only_whole_ones_count(tmp_path):
    run = RunFolder(tmp_path)
    for path in (run.checkpoint(9), run.checkpoint(100), run.checkpoint(20), run.staged("checkpoint-200")):
        path.mkdir()
    (tmp_path / "checkpoint-300").write_text("a file")
    assert run.checkpoints() == [run.checkpoint(9), run.checkpoint(20), run.checkpoint(100)]
    assert list(run.leftovers()) == [run.staged("checkpoint-200")]


def test_a_run_is_finished_when_its_encoder_has_weights(tmp_path):
    run = RunFolder(tmp_path)
    run.encoder.mkdir()
    assert not run.finished and run.finished_at is None
    weights = run.encoder / "model.safetensors"
    weights.touch()
    os.utime(weights, (5, 5))
    assert run.finished and run.finished_at == 5


def names_spelt_out(file):
    """Lines on which code (no docstring, no sentence) spells a name of the run folder."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in FILES or node.value == "pretraining" or node.value.startswith("checkpoint-"):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            if isinstance(node.right, ast.Constant) and node.right.value == "encoder":
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}"


def test_its_names_are_spelt_in_one_room_alone():
    found = {file: list(names_spelt_out(file)) for file in PACKAGE.rglob("*.py")}
    assert found[PACKAGE / "run" / "folder.py"]  # they are found where they are
    strangers = [line for file, lines in found.items() if file.parent.name != "run" for line in lines]
    assert strangers == []
