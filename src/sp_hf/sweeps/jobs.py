"""The processes of a sweep: which there are, what each waits for, and whether it is done.

Folders, under ``runs/<folder>/``, where the folder has the sweep's name if its file names no other::

    <run>-seed<k>/                 a run folder of sp-hf pretrain
    <run>-seed<k>.yaml             the options it was started with
    <run>-seed<k>.job.json         what its process does: a function of sp_hf, and its arguments
    <run>-seed<k>.log              what it printed
    <run>-seed<k>.cost.jsonl       one line for each time it was started: wall and CPU seconds
    evaluation/<run>-seed<k>/      of the evaluation whose first run that is: results.json, report.md, pictures
                                   (evaluation-<sweep>/ where the folder is another sweep's)
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from ..encoders.checkpoint import weights_digest
from ..evaluation.flags import RENAMED
from ..evaluation.options import EXECUTION, EvaluationOptions
from ..flags import renamed_option
from ..run.folder import RunFolder
from ..run.recipe import RecipeError
from .plan import Plan, PlannedRun, slug


@dataclasses.dataclass(frozen=True)
class Layout:
    """The folders and files of a sweep."""

    root: Path
    evaluations: str = "evaluation"

    @classmethod
    def of(cls, plan: Plan, output_dir: Path) -> Layout:
        """The layout under ``output_dir``."""
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
    """One process: a call of :func:`sp_hf.pretrain` or :func:`sp_hf.evaluate`.

    Args:
        name: for people.
        folder: what it writes; its log, cost and job file lie beside it.
        call: which function.
        options: its arguments, as JSON can hold them.
        needs: folders of runs that must be finished before.
        recipe: of a training run: the options that are written for it to read.
    """

    name: str
    folder: Path
    call: Literal["pretrain", "evaluate"]
    options: dict[str, Any]
    needs: list[Path]
    recipe: dict[str, Any] | None = None

    @property
    def is_training(self) -> bool:
        return self.call == "pretrain"

    @property
    def file(self) -> Path:
        """The file that its process reads what to do from."""
        return Path(f"{self.folder}.job.json")

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for it."""
        return RunFolder(self.folder).finished if self.is_training else self._is_measured()

    def _is_measured(self) -> bool:
        """With the options of now, all tasks of them, on the weights that lie there now."""
        file = self.folder / "results.json"
        if not file.is_file() or not all(RunFolder(run).finished for run in self.needs):
            return False
        results, options = json.loads(file.read_text(encoding="utf-8")), self.resolved().record()
        weights = {model["name"]: model.get("weights") for model in results["models"] if model["role"] == "model"}
        return (
            results.get("options") == options
            and results["tasks"].keys() == options["tasks"].keys()
            and weights == {name: weights_of(Path(run)) for name, run in self.options["models"].items()}
        )

    def resolved(self) -> EvaluationOptions:
        """What decides the metrics of an evaluation, defaults included.

        Raises:
            RecipeError: an unknown option, or one out of its range.
        """
        options = {name: value for name, value in self.options.items() if name not in ("models", *EXECUTION)}
        try:
            return EvaluationOptions.of(**options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{self.name}: {error}") from error

    def datasets(self) -> list[str]:
        """All that its process will read."""
        options = self.recipe or {} if self.is_training else self.options
        named = [value for key, value in options.items() if key.endswith("dataset") and value is not None]
        return [str(name) for value in named for name in (value if isinstance(value, list) else [value])]

    def write(self) -> None:
        """Its file, and the options of a training run as the recipe that it reads."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if self.recipe is not None:
            text = yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True)
            Path(f"{self.folder}.yaml").write_text(text, encoding="utf-8")
        job = {"call": self.call, "options": self.options}
        self.file.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")


def weights_of(folder: Path) -> str | None:
    """Digest of a finished run's weights."""
    encoder = RunFolder(folder).encoder
    stamps = tuple((file.name, file.stat().st_mtime_ns) for file in sorted(encoder.glob("*.safetensors")))
    return _digest_once(encoder, stamps)


@functools.cache
def _digest_once(folder: Path, stamps: tuple[tuple[str, int], ...]) -> str | None:
    return weights_digest(folder)


def plan_jobs(plan: Plan, layout: Layout, options: Mapping[str, Any]) -> list[Job]:
    """All processes, one seed after the other, so that a sweep that is cut short has whole seeds.

    Args:
        plan: the sweep.
        layout: its folders.
        options: the data, of pretraining and evaluation alike, which win over the plan's; an evaluation whose dataset
            the plan itself names stays with that.

    Raises:
        RecipeError: a run was started before with other options; or an evaluation's options are wrong.
    """
    jobs = []
    for seed in plan.seeds:
        jobs += [_training(run, seed, layout, options) for run in plan.runs.values()]
        jobs += [_evaluation(plan, names, seed, layout, options) for names in plan.evaluations]
    for job in jobs:
        if job.is_training:
            _check_options(job)
        else:
            job.resolved()
    return jobs


def _training(run: PlannedRun, seed: int, layout: Layout, options: Mapping[str, Any]) -> Job:
    folder = layout.run(run.name, seed)
    recipe = {**run.options, **options}
    needs = []
    if run.starts_from is not None:
        before = layout.run(run.starts_from, seed)
        needs.append(before)
        recipe["encoder"] = str(RunFolder(before).encoder)
        recipe.pop("image_size", None)  # the encoder brings its own
    call = {"recipe": f"{folder}.yaml", "output_dir": str(folder), "seed": seed}
    return Job(f"{run.name}, seed {seed}", folder, "pretrain", call, needs, recipe)


def _evaluation(plan: Plan, names: tuple[str, ...], seed: int, layout: Layout, options: Mapping[str, Any]) -> Job:
    folders = [layout.run(name, seed) for name in names]
    folder = layout.evaluation(names[0], seed)
    given = {renamed_option(name, RENAMED): value for name, value in plan.evaluate.items()}
    if "dataset" not in given:  # else it is measured elsewhere than the runs were trained
        given |= options
    if "dataset" not in given:  # that of the first run, as its recipe names it
        trained = plan.runs[names[0]].options
        spelled = ("dataset", "dataset_config", "dataset_split", "dataset_revision")
        given = {name: trained[name] for name in spelled if name in trained} | given
    call = {
        "models": {name: str(run) for name, run in zip(names, folders, strict=True)},
        **given,
        "seed": seed,
        "cache_dir": str(layout.root / "features"),
        "output_dir": str(folder),
    }
    return Job(f"evaluation of {', '.join(names)}, seed {seed}", folder, "evaluate", call, folders)


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
