"""The processes of a sweep: which there are, what each waits for, and whether it is done.

Folders, under ``runs/<folder>/``, where the folder has the sweep's name if its file names no other::

    <run>-seed<k>/                 a run folder of sp-hf pretrain
    <run>-seed<k>.yaml             the options it was started with
    <run>-seed<k>.log              what it printed
    <run>-seed<k>.cost.jsonl       one line for each time it was started: wall and CPU seconds
    evaluation/<run>-seed<k>/      of the evaluation whose first run that is: results.json, report.md, pictures
                                   (evaluation-<sweep>/ where the folder is another sweep's)
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..run.checkpoints import last_checkpoint
from ..run.recipe import RecipeError
from .plan import Plan, PlannedRun, slug


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a sweep keeps what."""

    root: Path
    evaluations: str = "evaluation"

    @classmethod
    def of(cls, plan: Plan, output_dir: Path) -> Layout:
        """Under ``output_dir``."""
        own = plan.folder == plan.name
        return cls(output_dir / plan.folder, "evaluation" if own else f"evaluation-{plan.name}")

    def run(self, name: str, seed: int) -> Path:
        """The run folder."""
        return self.root / f"{slug(name)}-seed{seed}"

    def evaluation(self, first: str, seed: int) -> Path:
        """The folder of the evaluation that starts with this run."""
        return self.root / self.evaluations / f"{slug(first)}-seed{seed}"


@dataclasses.dataclass
class Job:
    """One process.

    Args:
        name: for people.
        folder: what it writes; ``folder.log`` and ``folder.cost.jsonl`` lie beside it.
        argv: after ``sp-hf``.
        needs: folders of runs that must be finished before.
        recipe: of a training run: the options that are written for it to read.
    """

    name: str
    folder: Path
    argv: list[str]
    needs: list[Path]
    recipe: dict[str, Any] | None = None

    @property
    def is_training(self) -> bool:
        return self.recipe is not None

    @property
    def done(self) -> bool:
        """Nothing is left to do for it."""
        return is_trained(self.folder) if self.is_training else self._is_measured()

    def _is_measured(self) -> bool:
        """By this very command, all tasks of it, after the runs were trained."""
        file = self.folder / "results.json"
        if not file.is_file():
            return False
        found = json.loads(file.read_text(encoding="utf-8"))
        return (
            found["command"] == shlex.join(["sp-hf", *self.argv])
            and set(found["tasks"]) == set(tasks_of(self.argv))
            and all(is_trained(folder) and _trained_at(folder) <= file.stat().st_mtime for folder in self.needs)
        )

    def command(self) -> list[str]:
        """What is started now: a training run that was interrupted goes on."""
        resumes = self.is_training and last_checkpoint(self.folder) is not None
        return [*self.argv, *(["--resume_from_checkpoint", "last"] if resumes else [])]


def is_trained(folder: Path) -> bool:
    """The run folder holds the finished encoder, which is written whole or not at all."""
    return any(_weights(folder))


def _trained_at(folder: Path) -> float:
    return max(file.stat().st_mtime for file in _weights(folder))


def _weights(folder: Path) -> Iterator[Path]:
    return (folder / "encoder").glob("*.safetensors")


def tasks_of(argv: list[str]) -> list[str]:
    """The values of ``--tasks``."""
    after = argv[argv.index("--tasks") + 1 :]
    return after[: next((i for i, word in enumerate(after) if word.startswith("--")), len(after))]


def plan_jobs(plan: Plan, layout: Layout, options: Mapping[str, Any]) -> list[Job]:
    """All processes, one seed after the other, so that a sweep that is cut short has whole seeds.

    Args:
        plan: the sweep.
        layout: its folders.
        options: of pretraining and evaluation alike (``dataset``, ...), which win over the plan's.

    Raises:
        RecipeError: a run was started before with other options.
    """
    jobs = []
    for seed in plan.seeds:
        jobs += [_training(run, seed, layout, options) for run in plan.runs.values()]
        jobs += [_evaluation(plan, names, seed, layout, options) for names in plan.evaluations]
    for job in jobs:
        if job.is_training:
            _check_options(job)
    return jobs


def _training(run: PlannedRun, seed: int, layout: Layout, options: Mapping[str, Any]) -> Job:
    folder = layout.run(run.name, seed)
    recipe = {**run.options, **options}
    needs = []
    if run.starts_from is not None:
        before = layout.run(run.starts_from, seed)
        needs.append(before)
        recipe["encoder"] = str(before / "encoder")
        recipe.pop("image_size", None)  # the encoder brings its own
    argv = ["pretrain", "--recipe", f"{folder}.yaml", "--output_dir", str(folder), "--seed", str(seed)]
    return Job(f"{run.name}, seed {seed}", folder, argv, needs, recipe)


def _evaluation(plan: Plan, names: tuple[str, ...], seed: int, layout: Layout, options: Mapping[str, Any]) -> Job:
    folders = [layout.run(name, seed) for name in names]
    flags = {"dataset": plan.runs[names[0]].options.get("dataset"), **plan.evaluate, **options}
    argv = ["evaluate", *(f"{name}={folder}" for name, folder in zip(names, folders, strict=True))]
    for flag, value in flags.items():
        if value is True:
            argv.append(f"--{flag}")
        elif value is not None and value is not False:
            argv += [f"--{flag}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    argv += ["--seed", str(seed), "--cache_dir", str(layout.root / "features")]
    folder = layout.evaluation(names[0], seed)
    argv += ["--output_dir", str(folder)]
    return Job(f"evaluation of {', '.join(names)}, seed {seed}", folder, argv, folders)


def _check_options(job: Job) -> None:
    """What is there was made with the options of now."""
    file = Path(f"{job.folder}.yaml")
    if not job.folder.exists() or not file.is_file():
        return
    before, now = yaml.safe_load(file.read_text(encoding="utf-8")), job.recipe or {}
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        key = changed[0]
        raise RecipeError(
            f"{job.folder} was run with {key} = {before.get(key)!r}, and the sweep now says {now.get(key)!r}"
            f" ({len(changed)} options differ). Remove that folder to run it anew, or choose another --output_dir."
        )


def write_recipe_of(job: Job) -> None:
    """The options of a training run, where its command reads them."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    if job.recipe is not None:
        Path(f"{job.folder}.yaml").write_text(yaml.safe_dump(job.recipe, sort_keys=False, allow_unicode=True))
