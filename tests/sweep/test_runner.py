"""Processes of a sweep, with a stand-in for sp-hf: order, what is skipped, what failed, what is stopped."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from sp_hf.evaluation.command import parser
from sp_hf.run.folder import RunFolder
from sp_hf.run.recipe import RecipeError, read_recipe
from sp_hf.sweeps import job as job_module
from sp_hf.sweeps.job import evaluate_command
from sp_hf.sweeps.jobs import Job, Layout, plan_jobs
from sp_hf.sweeps.plan import read_plan
from sp_hf.sweeps.runner import SweepError, last_lines, run_jobs

from .conftest import RECIPE

STAND_IN = """
import hashlib, json, signal, sys, time
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
call, options = job["call"], job["options"]
folder = Path(options["output_dir"])
resumed = (folder / "checkpoint-7").is_dir()
with open(folder.parents[0 if call == "pretrain" else 1] / "order.txt", "a") as file:
    file.write(f"{call} {folder.name} {'resumed' if resumed else ''}\\n")
folder.mkdir(parents=True, exist_ok=True)
if "fails" in folder.name:
    sys.exit("this one fails")
if "waits" in folder.name and not resumed:
    def stop(*_):
        (folder / "checkpoint-7").mkdir()
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    print("waiting", flush=True)
    time.sleep(60)
if call == "pretrain":
    (folder / "encoder").mkdir()
    (folder / "encoder" / "model.safetensors").write_text(f"{folder.name}, {time.time()}")
else:
    models = []
    for name, run in options["models"].items():
        weights = (Path(run) / "encoder" / "model.safetensors").read_bytes()
        digest = hashlib.sha256(b"model.safetensors" + weights).hexdigest()
        models.append({"name": name, "role": "model", "weights": digest})
    measured = json.loads(Path(f"{folder}.resolved.json").read_text())  # importing sp_hf would take its time
    made = {"options": measured, "models": models, "tasks": {name: {} for name in measured["tasks"]}}
    (folder / "results.json").write_text(json.dumps(made))
"""


@pytest.fixture
def program(tmp_path) -> tuple[str, str]:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return sys.executable, str(tmp_path / "stand_in.py")


@pytest.fixture
def layout(tmp_path) -> Layout:
    (tmp_path / "runs").mkdir()
    return Layout(tmp_path / "runs")


def run(jobs: list[Job], slots: int, program: tuple[str, str]) -> None:
    """Tells the stand-in what options come to."""
    for job in jobs:
        if not job.is_training:
            job.folder.parent.mkdir(exist_ok=True)
            Path(f"{job.folder}.resolved.json").write_text(json.dumps(job.resolved().record()))
    run_jobs(jobs, slots, program)


def order(layout: Layout) -> list[str]:
    file = layout.root / "order.txt"
    return [line.strip() for line in file.read_text().splitlines()] if file.is_file() else []


def test_seed_by_seed_and_only_what_is_left(write_sweep, layout, program):
    plan = read_plan(write_sweep())
    run(plan_jobs(plan, layout, {}), 1, program)
    one_seed = ["pretrain a-seed{}", "pretrain a-sp-seed{}", "pretrain a-then-sp-seed{}", "evaluate a-seed{}"]
    assert order(layout) == [line.format(seed) for seed in (0, 1) for line in one_seed]
    assert all(job.done for job in plan_jobs(plan, layout, {}))
    run(plan_jobs(plan, layout, {}), 1, program)
    assert len(order(layout)) == 8  # nothing was started again
    os.remove(layout.run("A + SP", 1) / "encoder" / "model.safetensors")
    layout.run("A + SP", 1).joinpath("encoder").rmdir()
    time.sleep(0.02)
    run(plan_jobs(plan, layout, {}), 1, program)
    assert order(layout)[8:] == ["pretrain a-sp-seed1", "evaluate a-seed1"]  # measured anew, as a run is another one


def test_what_is_measured_otherwise_is_measured_anew(write_sweep, layout, program):
    run(plan_jobs(read_plan(write_sweep()), layout, {}), 2, program)
    changed = read_plan(write_sweep(evaluate={"tasks": ["relative-geometry", "knn"], "max_images": 30}))
    left = [job.name for job in plan_jobs(changed, layout, {}) if not job.done]
    assert left == [f"evaluation of A, A + SP, A, then SP, seed {seed}" for seed in (0, 1)]


def test_a_run_with_other_options_is_not_mixed_in(write_sweep, layout, program):
    run(plan_jobs(read_plan(write_sweep()), layout, {}), 2, program)
    with pytest.raises(RecipeError, match="a-seed0 was run with dataset = 'part-scenes.*now says 'other'"):
        plan_jobs(read_plan(write_sweep()), layout, {"dataset": "other"})


def test_an_evaluation_that_was_cut_short_is_left(write_sweep, layout, program):
    run(plan_jobs(read_plan(write_sweep()), layout, {}), 2, program)
    job = next(job for job in plan_jobs(read_plan(write_sweep()), layout, {}) if not job.is_training)
    found = json.loads((job.folder / "results.json").read_text())
    for changes in ({"tasks": {"knn": {}}}, {"options": found["options"] | {"seed": 9}}, {"options": None}):
        (job.folder / "results.json").write_text(json.dumps(found | changes))
        assert not job.done
    (job.folder / "results.json").write_text(json.dumps(found))
    assert job.done


def test_how_it_is_run_is_not_what_is_measured(write_sweep, layout, program):
    """The same numbers come out with other workers: nothing is measured anew."""
    tasks = {"tasks": ["relative-geometry", "knn"], "max_images": 60}
    run(plan_jobs(read_plan(write_sweep(evaluate=tasks)), layout, {}), 2, program)
    other = read_plan(write_sweep(evaluate={**tasks, "num_workers": 3, "batch_size": 7, "no_cache": True}))
    assert all(job.done for job in plan_jobs(other, layout, {}))


def test_arguments(write_sweep, layout):
    options = {"validation_dataset": "v", "validation_dataset_split": "s"}
    jobs = {job.name: job for job in plan_jobs(read_plan(write_sweep()), layout, options)}
    trained, continued = jobs["A, seed 1"], jobs["A, then SP, seed 1"]
    folder = layout.root / "a-seed1"
    assert trained.options == {"recipe": f"{folder}.yaml", "output_dir": str(folder), "seed": 1}
    assert (trained.recipe["validation_dataset"], trained.recipe["validation_dataset_split"]) == ("v", "s")
    assert continued.recipe["encoder"] == str(folder / "encoder")
    assert "image_size" not in continued.recipe and continued.needs == [folder]
    measured = jobs["evaluation of A, A + SP, A, then SP, seed 1"]
    assert measured.options["models"] == {
        name: str(layout.root / f"{place}-seed1")
        for name, place in (("A", "a"), ("A + SP", "a-sp"), ("A, then SP", "a-then-sp"))
    }
    assert [task.name for task in measured.resolved().tasks] == ["relative-geometry", "knn"]
    assert measured.options["dataset"] == "part-scenes?size=64&num_images=64"
    command = evaluate_command(measured.options)
    args = parser().parse_args(shlex.split(command)[2:])  # what is shown to people is a command that works
    assert (args.validation_dataset, args.validation_dataset_split, args.no_cache) == ("v", "s", True)
    assert args.models[1] == f"A + SP={layout.root / 'a-sp-seed1'}" and args.tasks == ["relative-geometry", "knn"]


def test_data_of_the_recipe_is_what_is_measured_on_unless_another_is_named(write_sweep, layout):
    recipe = {**RECIPE, "dataset": "org/name", "dataset_config": "small", "dataset_revision": "v2"}
    plan = read_plan(write_sweep(recipe))
    job = next(job for job in plan_jobs(plan, layout, {}) if not job.is_training)
    source = job.resolved().source
    assert (source.dataset, source.dataset_config, source.dataset_revision) == ("org/name", "small", "v2")
    job = next(job for job in plan_jobs(plan, layout, {"dataset": "others"}) if not job.is_training)
    assert (job.resolved().source.dataset, job.resolved().source.dataset_config) == ("others", None)


def test_a_sweep_may_measure_elsewhere_than_its_runs_are_trained(write_sweep, layout):
    evaluate = {"tasks": ["knn"], "dataset": "elsewhere", "validation_dataset": "there"}
    jobs = plan_jobs(read_plan(write_sweep(evaluate=evaluate)), layout, {"dataset": "a", "validation_dataset": "b"})
    assert {job.recipe["dataset"] for job in jobs if job.is_training} == {"a"}
    sources = [job.resolved().source for job in jobs if not job.is_training]
    assert {(source.dataset, source.validation_dataset) for source in sources} == {("elsewhere", "there")}


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"tasks": ["knn"], "knn_neighbors": 3}, "evaluation of A.*no option 'knn_neighbors'"),
        ({"tasks": ["knm"]}, "unknown task knm"),
    ],
)
def test_wrong_options_of_an_evaluation_are_refused_before_anything_is_run(write_sweep, layout, evaluate, message):
    with pytest.raises(RecipeError, match=message):
        plan_jobs(read_plan(write_sweep(evaluate=evaluate)), layout, {})


def test_a_failure_leaves_the_others(layout, program):
    broken, needy, fine = (
        Job(name, layout.root / name, "pretrain", {"output_dir": str(layout.root / name)}, [], {"a": 1})
        for name in ("fails", "needs-it", "fine")
    )
    needy.needs.append(broken.folder)
    with pytest.raises(SweepError, match="(?s)fails failed.*this one fails.*Not begun.*: needs-it"):
        run_jobs([broken, needy, fine], 1, program)
    assert fine.done and not needy.folder.exists()
    assert json.loads((layout.root / "fails.cost.jsonl").read_text())["exit_status"] == 1


def test_several_at_a_time_share_the_cores(layout, program, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    threads = layout.root / "threads.py"
    threads.write_text("import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(os.environ['OMP_NUM_THREADS'])")
    job = Job("one", layout.root / "one", "pretrain", {}, [], {})
    run_jobs([job], 2, (sys.executable, str(threads)))
    assert job.file.read_text() == "3"


def test_interrupted_it_stops_its_processes_and_goes_on_later(layout, program):
    """SIGTERM (or Ctrl-C): each process gets one SIGTERM and the time to save; the next start resumes it."""
    folder = layout.root / "waits"
    job = Job("waits", folder, "pretrain", {"output_dir": str(folder)}, [], {"a": 1})

    def interrupt() -> None:
        log = Path(f"{job.folder}.log")
        while not last_lines(log, 1):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], 1, program)
    thread.join()
    assert (job.folder / "checkpoint-7").is_dir() and not RunFolder(job.folder).finished
    run_jobs([job], 1, program)
    assert order(layout) == ["pretrain waits", "pretrain waits resumed"] and job.done
    costs = [json.loads(line) for line in (layout.root / "waits.cost.jsonl").read_text().splitlines()]
    assert [cost["exit_status"] for cost in costs] == [143, 0]


def test_last_lines_of_a_progress_bar(tmp_path):
    (tmp_path / "log").write_text("first\n 1/3\r 2/3\r 3/3\n\n")
    assert last_lines(tmp_path / "log", 5) == ["first", "3/3"]
    assert last_lines(tmp_path / "none", 5) == []


def test_a_process_finds_its_arguments_and_its_recipe(write_sweep, layout):
    job = plan_jobs(read_plan(write_sweep()), layout, {})[0]
    job.write()
    assert json.loads(job.file.read_text()) == {"call": "pretrain", "options": job.options}
    assert read_recipe(job.options["recipe"]) == job.recipe


def test_a_run_that_was_interrupted_goes_on(write_sweep, layout, monkeypatch):
    """The run itself looks what is left to do."""
    job = plan_jobs(read_plan(write_sweep()), layout, {})[0]
    job.write()
    asked = []
    monkeypatch.setattr(job_module, "run_pretraining", lambda *args: asked.append(args[2]))
    job_module.run_job(job.file)
    assert [args.resume for args in asked] == ["auto"]
    assert {args.seed for args in asked} == {0} and {args.output_dir for args in asked} == {str(job.folder)}
