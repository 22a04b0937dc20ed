"""Processes of a sweep, with a stand-in for sp-hf: order, what is skipped, what failed, what is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sp_hf.run.recipe import RecipeError
from sp_hf.sweep.jobs import Job, Layout, is_trained, plan_jobs, tasks_of, write_recipe_of
from sp_hf.sweep.plan import read_plan
from sp_hf.sweep.runner import SweepError, last_lines, run_jobs

STAND_IN = """
import json, shlex, signal, sys, time
from pathlib import Path
command, *rest = sys.argv[1:]
folder = Path(rest[rest.index("--output_dir") + 1])
with open(folder.parents[0 if command == "pretrain" else 1] / "order.txt", "a") as file:
    file.write(f"{command} {folder.name} {'resumed' if '--resume_from_checkpoint' in rest else ''}\\n")
folder.mkdir(parents=True, exist_ok=True)
if "fails" in folder.name:
    sys.exit("this one fails")
if "waits" in folder.name and "--resume_from_checkpoint" not in rest:
    def stop(*_):
        (folder / "checkpoint-7").mkdir()
        (folder / "checkpoint-7" / "pretraining_state.json").write_text("{}")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    print("waiting", flush=True)
    time.sleep(60)
if command == "pretrain":
    (folder / "encoder").mkdir()
    (folder / "encoder" / "model.safetensors").touch()
else:
    made = {"command": shlex.join(["sp-hf", *sys.argv[1:]]), "tasks": {"relative-geometry": {}, "knn": {}}}
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


def order(layout: Layout) -> list[str]:
    file = layout.root / "order.txt"
    return [line.strip() for line in file.read_text().splitlines()] if file.is_file() else []


def test_seed_by_seed_and_only_what_is_left(write_sweep, layout, program):
    plan = read_plan(write_sweep())
    run_jobs(plan_jobs(plan, layout, {}), 1, program)
    one_seed = ["pretrain a-seed{}", "pretrain a-sp-seed{}", "pretrain a-then-sp-seed{}", "evaluate a-seed{}"]
    assert order(layout) == [line.format(seed) for seed in (0, 1) for line in one_seed]
    assert all(job.done for job in plan_jobs(plan, layout, {}))
    run_jobs(plan_jobs(plan, layout, {}), 1, program)
    assert len(order(layout)) == 8  # nothing was started again
    os.remove(layout.run("A + SP", 1) / "encoder" / "model.safetensors")
    layout.run("A + SP", 1).joinpath("encoder").rmdir()
    time.sleep(0.02)
    run_jobs(plan_jobs(plan, layout, {}), 1, program)
    assert order(layout)[8:] == ["pretrain a-sp-seed1", "evaluate a-seed1"]  # measured anew, as a run is another one


def test_what_is_measured_otherwise_is_measured_anew(write_sweep, layout, program):
    run_jobs(plan_jobs(read_plan(write_sweep()), layout, {}), 2, program)
    changed = read_plan(write_sweep(evaluate={"tasks": ["relative-geometry", "knn"], "max_images": 30}))
    left = [job.name for job in plan_jobs(changed, layout, {}) if not job.done]
    assert left == [f"evaluation of A, A + SP, A, then SP, seed {seed}" for seed in (0, 1)]


def test_a_run_with_other_options_is_not_mixed_in(write_sweep, layout, program):
    run_jobs(plan_jobs(read_plan(write_sweep()), layout, {}), 2, program)
    with pytest.raises(RecipeError, match="a-seed0 was run with dataset = 'part-scenes.*now says 'other'"):
        plan_jobs(read_plan(write_sweep()), layout, {"dataset": "other"})


def test_arguments(write_sweep, layout):
    jobs = {job.name: job for job in plan_jobs(read_plan(write_sweep()), layout, {"validation_dataset": "v"})}
    trained, continued = jobs["A, seed 1"], jobs["A, then SP, seed 1"]
    assert trained.argv[-4:] == ["--output_dir", str(layout.root / "a-seed1"), "--seed", "1"]
    assert continued.recipe["encoder"] == str(layout.root / "a-seed1" / "encoder")
    assert "image_size" not in continued.recipe and continued.needs == [layout.root / "a-seed1"]
    argv = jobs["evaluation of A, A + SP, A, then SP, seed 1"].argv
    assert argv[:3] == ["evaluate", f"A={layout.root / 'a-seed1'}", f"A + SP={layout.root / 'a-sp-seed1'}"]
    assert tasks_of(argv) == ["relative-geometry", "knn"]
    assert "--no_cache" in argv and argv[argv.index("--no_cache") + 1].startswith("--")
    assert argv[argv.index("--validation_dataset") + 1] == "v"
    assert argv[argv.index("--dataset") + 1] == "part-scenes?size=64&num_images=64"


def test_a_failure_leaves_the_others(layout, program):
    broken, needy, fine = (
        Job(name, layout.root / name, ["pretrain", "--output_dir", str(layout.root / name)], [], {"a": 1})
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
    job = Job("one", layout.root / "one", [str(layout.root / "threads.txt")], [], {})
    run_jobs([job], 2, (sys.executable, str(threads)))
    assert (layout.root / "threads.txt").read_text() == "3"


def test_interrupted_it_stops_its_processes_and_goes_on_later(layout, program):
    """SIGTERM (or Ctrl-C): each process gets one SIGTERM and the time to save; the next start resumes it."""
    job = Job("waits", layout.root / "waits", ["pretrain", "--output_dir", str(layout.root / "waits")], [], {"a": 1})

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
    assert (job.folder / "checkpoint-7").is_dir() and not is_trained(job.folder)
    run_jobs([job], 1, program)
    assert order(layout) == ["pretrain waits", "pretrain waits resumed"] and job.done
    costs = [json.loads(line) for line in (layout.root / "waits.cost.jsonl").read_text().splitlines()]
    assert [cost["exit_status"] for cost in costs] == [143, 0]


def test_last_lines_of_a_progress_bar(tmp_path):
    (tmp_path / "log").write_text("first\n 1/3\r 2/3\r 3/3\n\n")
    assert last_lines(tmp_path / "log", 5) == ["first", "3/3"]
    assert last_lines(tmp_path / "none", 5) == []


def test_recipes_are_written_where_commands_read_them(write_sweep, layout):
    job = plan_jobs(read_plan(write_sweep()), layout, {})[0]
    write_recipe_of(job)
    assert Path(job.argv[2]).is_file()
    assert subprocess.run(["grep", "-c", "vit-micro-8", job.argv[2]], capture_output=True, text=True).stdout == "1\n"
