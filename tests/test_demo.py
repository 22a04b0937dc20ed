"""scripts/demo.py: what its last sentence says, of numbers that hold and of numbers that do not; side by side."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import pytest

from sp_hf import Results
from sp_hf.run.recipe_file import read_recipe


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", Path(__file__).parents[1] / "scripts" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(demo: ModuleType, changed: dict[tuple[str, str], float] | None = None, gain: float = 0.1) -> Results:
    """A run that shows all that it is to show, but for what was changed; intervals are +- 0.02."""
    values = {("what", "raw pixels"): 0.5, ("what", "random initialisation"): 0.4}
    values |= {("what", demo.CONTROL): 0.7, ("what", demo.WITH_SP): 0.75}
    values |= {("where", "low-level cues"): 0.09, ("where", "random initialisation"): 0.02}
    values |= {("where", demo.CONTROL): 0.05, ("where", demo.WITH_SP): 0.3} | (changed or {})
    tasks = {}
    for kind, (task, metric) in (("what", demo.WHAT), ("where", demo.WHERE)):
        found = {
            model: {metric: {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 500}}
            for (of, model), value in values.items()
            if of == kind
        }
        for measures in found.values():
            measures[metric] |= {"percent": kind == "what", "higher_is_better": True, "chance": None}
        difference = {metric: {"value": gain, "low": gain - 0.02, "high": gain + 0.02}}
        tasks[task] = {
            "kind": kind,
            "results": {model: {"measures": measures} for model, measures in found.items()},
            "differences": {demo.WITH_SP: difference},
            "skipped": {},
        }
    names = list(dict.fromkeys(model for _, model in values))
    models = [{"name": name, "role": "model"} for name in names]
    return Results({"models": models, "reference": demo.CONTROL, "tasks": tasks})


def test_the_sentence_says_what_the_numbers_show(demo: ModuleType) -> None:
    said = demo.verdict({0: results(demo), 1: results(demo, {("where", demo.WITH_SP): 0.4})})
    assert said.startswith("Both learnt what") and "does not" not in said
    assert f"{demo.CONTROL} 70 %" in said and "raw pixels 50 %" in said
    assert f"{demo.WITH_SP} 0.35" in said and "low-level cues 0.09" in said  # the mean of the seeds


@pytest.mark.parametrize(
    ("changed", "gain", "claim"),
    [
        ({("what", "raw pixels"): 0.69}, 0.1, "{control} is not clear of raw pixels in kNN"),
        ({("what", "random initialisation"): 0.8}, 0.1, "{sp} is not clear of random initialisation in kNN"),
        ({("where", "low-level cues"): 0.28}, 0.1, "{sp} is not clear of low-level cues in where"),
        ({}, 0.01, "{sp} is not clear of its control in where"),
    ],
)
def test_one_seed_in_which_a_claim_fails_is_said_plainly(
    demo: ModuleType, changed: dict[tuple[str, str], float], gain: float, claim: str
) -> None:
    said = demo.verdict({0: results(demo), 1: results(demo, changed, gain)})
    assert said.startswith("This does not show it")
    assert claim.format(control=demo.CONTROL, sp=demo.WITH_SP) in said


def test_the_runs_are_the_recipe_and_the_recipe_without_sp(demo: ModuleType) -> None:
    names = [entry["name"] for entry in read_recipe(demo.RECIPE)["objectives"]]
    assert demo.RUNS[demo.WITH_SP] == names
    assert demo.RUNS[demo.CONTROL] == [name for name in names if name != "spatial_prediction"]


def test_each_line_of_a_run_begins_with_its_name(demo: ModuleType) -> None:
    stream = io.StringIO()
    named = demo._Named(stream, "mine")
    for text in ("step 1", "/2\nstep 2/2\n", "end"):
        named.write(text)
    assert stream.getvalue() == "mine     | step 1/2\nmine     | step 2/2\nmine     | end"
