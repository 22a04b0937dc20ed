"""A sweep's file: what it comes to, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sp_hf.cli import main
from sp_hf.run.recipe import RecipeError, merged, parse_run, resolve_run
from sp_hf.sweeps.jobs import Layout, plan_jobs
from sp_hf.sweeps.plan import read_plan, slug
from sp_hf.sweeps.sweep import chosen

SWEEPS = sorted((Path(__file__).parents[2] / "recipes" / "sweeps").glob("*.yaml"))


def test_an_objective_keeps_what_the_run_does_not_change(write_sweep, tmp_path):
    runs = {"A": {"recipe": "base.yaml", "objectives": ["dino", {"name": "spatial_prediction", "views": {"count": 6}}]}}
    options = read_plan(write_sweep(runs=runs, evaluations=[["A"]])).runs["A"].options
    assert options["objectives"][1] == {
        "name": "spatial_prediction", "weight": 0.5, "views": {"count": 6, "size": 24, "area": [0.1, 0.4]},
    }  # fmt: skip
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(options))
    model, _, _ = parse_run(["--recipe", str(tmp_path / "made.yaml"), "--output_dir", "x"])  # sp-hf pretrain reads it
    assert [entry["name"] for entry in model.objectives] == ["dino", "spatial_prediction"]


def test_the_control_is_the_recipe_without_an_objective(write_sweep):
    runs = read_plan(write_sweep()).runs
    control, treated = runs["A"].options, runs["A + SP"].options
    assert control["objectives"] == treated["objectives"][:1]
    assert {k: v for k, v in control.items() if k != "objectives"} == {
        k: v for k, v in treated.items() if k != "objectives"
    }


def test_merged_takes_options_away():
    assert merged({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}}) == {"b": {"c": 4, "d": 3}}


def test_runs_come_after_those_they_continue_from(write_sweep):
    runs = {
        "third": {"recipe": "base.yaml", "encoder": "run:second"},
        "second": {"recipe": "base.yaml", "encoder": "run:first"},
        "first": {"recipe": "base.yaml"},
    }
    plan = read_plan(write_sweep(runs=runs, evaluations=[["third", "second", "first"]]))
    assert list(plan.runs) == ["first", "second", "third"]


def test_only_keeps_what_is_needed(write_sweep):
    evaluations = [["A"], ["A + SP"], ["A, then SP"]]
    plan = read_plan(write_sweep(evaluations=evaluations))
    assert list(chosen(plan, [1], ["A, then SP"]).runs) == ["A", "A, then SP"]
    assert chosen(plan, [1], ["A, then SP"]).seeds == (1,)
    with pytest.raises(RecipeError, match="seed 7 is not in the sweep; it has 0, 1"):
        chosen(plan, [7], None)
    with pytest.raises(RecipeError, match="no evaluation begins with 'B'; there are: A, A "):
        chosen(plan, None, ["B"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": None}, "lacks seeds"),
        ({"seed": [1]}, "unknown seed"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": [0.5]}, "different whole numbers"),
        ({"runs": {"A": {"objectives": ["dino"]}}}, "'A' must be a mapping with a recipe"),
        ({"runs": {"A": {"recipe": "base.yml"}}}, "no recipe at .*There are: base.yaml"),
        ({"runs": {"A": {"recipe": "base.yaml", "seed": 1}}}, "sets seed, which the sweep decides"),
        ({"runs": {"A": {"recipe": "base.yaml"}, "a": {"recipe": "base.yaml"}}}, "'A' and 'a' would share a folder"),
        ({"runs": {"A": {"recipe": "base.yaml", "encoder": "run:B"}}}, "'A' from 'B'"),
        ({"evaluations": [["A", "B"]]}, "no run is called 'B'"),
        ({"evaluations": [["A", "A + SP"]]}, "in no evaluation: A, then SP"),
        ({"evaluations": [["A", "A + SP"], ["A", "A, then SP"]]}, "start with the same run"),
        ({"expect": {"knn/error": "higher"}}, "expect names knn/error"),
        ({"expect": {"knn/accuracy": "lower"}}, "knn/accuracy must be 'higher' or"),
        ({"measures": {"accuracy": "kNN"}, "expect": None}, "'accuracy' is not a task/metric"),
        ({"plots": [{"title": "views", "runs": {"2": "B"}}]}, "no run is called 'B'"),
    ],
)
def test_what_is_refused(write_sweep, changes, message):
    with pytest.raises(RecipeError, match=message):
        read_plan(write_sweep(**changes))


def test_a_mistake_is_one_line(write_sweep, capsys, tmp_path):
    assert main(["sweep", str(write_sweep(seeds=[])), "--output_dir", str(tmp_path / "runs")]) == 1
    assert capsys.readouterr().err.startswith("sp-hf: error: ")
    recipe = {"encoder": "vit-micro-8", "dataset": "path/to/images", "objectives": ["dino"]}
    runs = {"A": {"recipe": "base.yaml"}}
    path = write_sweep(recipe=recipe, runs=runs, evaluations=[["A"]])
    assert main(["sweep", str(path), "--output_dir", str(tmp_path / "runs")]) == 1
    assert "name the file with --dataset" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["dataset", "validation_dataset", "segmentation_dataset"])
def test_data_that_is_not_there_is_told_before_anything_is_run(write_sweep, capsys, tmp_path, flag):
    recipe = {"encoder": "vit-micro-8", "dataset": "part-scenes?num_images=8", "objectives": ["dino"]}
    evaluate = {"tasks": ["knn", "segmentation"]}
    command = []
    if flag == "segmentation_dataset":
        evaluate[flag] = "gone.parquet"
    else:
        command = [f"--{flag}", "gone.parquet"]
    path = write_sweep(recipe, runs={"A": {"recipe": "base.yaml"}}, evaluations=[["A"]], evaluate=evaluate)
    assert main(["sweep", str(path), "--output_dir", str(tmp_path / "runs"), *command]) == 1
    error = capsys.readouterr().err
    assert "A, seed" in error and "no such file or folder: 'gone.parquet'" in error
    assert not (tmp_path / "runs").exists()


def test_a_recipe_is_not_a_sweep(write_sweep):
    with pytest.raises(RecipeError, match="is a recipe of one run, not a sweep: sp-hf pretrain --recipe"):
        read_plan(write_sweep().with_name("base.yaml"))


def test_slug():
    assert slug("MoCo v3 + SP (0.5)") == "moco-v3-sp-0.5"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_are_ready_to_run(path, tmp_path):
    """Every run's recipe is one that sp_hf.pretrain reads, every evaluation has options that sp_hf.evaluate takes."""
    plan = chosen(read_plan(path), [0], None)  # seeds differ in nothing else
    options = {"dataset": "images.parquet", "validation_dataset": "others.parquet"}
    for job in plan_jobs(plan, Layout.of(plan, tmp_path), options):
        if job.is_training:
            resolve_run({"seed": 0, "use_cpu": True}, job.recipe)  # bf16 without a GPU needs it
        else:
            assert {key.split("/")[0] for key in plan.measures} <= {task.name for task in job.resolved().tasks}


def test_the_example_of_the_documentation_is_one(tmp_path):
    root = Path(__file__).parents[2]
    example = (root / "docs" / "sweeps.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(example)
    recipe = (root / "recipes" / "dino_sp_vit_small.yaml").read_text()
    (tmp_path / "dino_sp_vit_small.yaml").write_text(recipe)
    plan = read_plan(tmp_path / "sweeps" / "mine.yaml")
    weights = [run.options["objectives"][-1].get("weight") for run in plan.runs.values()]
    assert plan.title == "My images" and weights[1:3] == [None, 6.0]
