"""docs/results.md is what scripts/results.py makes of the committed numbers: nobody typed a metric."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from sp_hf.run.arguments import PretrainingArguments
from sp_hf.sweeps.plan import read_plan

ROOT = Path(__file__).parents[2]
NUMBERS = sorted((ROOT / "docs" / "results").glob("*.json"))


def test_the_pages_are_generated(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts" / "results.py"))
    found = {file.stem: json.loads(file.read_text()) for file in NUMBERS}
    sweeps = [
        (read_plan(ROOT / "recipes" / "sweeps" / f"{name}.yaml"), found[name]) for name in script["ordered"](found)
    ]
    assert script["page"](sweeps) == (ROOT / "docs" / "results.md").read_text()
    for folder in ("images", "results"):
        (tmp_path / folder).mkdir()
    for plan, numbers in sweeps:
        made = script["details"](plan, numbers, tmp_path / "results")
        assert made == (ROOT / "docs" / "results" / f"{plan.name}.md").read_text()


@pytest.mark.parametrize("file", NUMBERS, ids=lambda file: file.stem)
def test_the_numbers_are_of_the_sweep_that_is_in_the_repository(file):
    """Every run's options are those that its sweep would start it with today."""
    found, plan = json.loads(file.read_text()), read_plan(ROOT / "recipes" / "sweeps" / f"{file.stem}.yaml")
    assert found["schema_version"] == 1
    for name, run in found["runs"].items():
        wanted = plan.runs[name].options
        for key in ("num_train_epochs", "learning_rate", "per_device_train_batch_size", "canvas_size"):
            if run["seeds"]:  # a run does not write down what is the default
                default = PretrainingArguments.__dataclass_fields__.get(key)
                assert run["options"].get(key, default and default.default) == wanted[key], (name, key)
        if run["seeds"]:
            named = [e["name"] if isinstance(e, dict) else e for e in wanted["objectives"]]
            assert [entry["name"] for entry in run["options"]["objectives"]] == named


@pytest.mark.parametrize("file", NUMBERS, ids=lambda file: file.stem)
def test_no_folder_of_anybody_is_in_the_numbers(file):
    assert re.findall(r"""["'= ]/\w[^"' ]*""", file.read_text()) == []
