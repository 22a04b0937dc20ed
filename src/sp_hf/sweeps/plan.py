"""A sweep's YAML file: which runs, over which seeds, measured how, shown in which plots.

::

    title: Caltech-101
    seeds: [0, 1, 2]
    runs:                          # name: a recipe of sp-hf pretrain, and what differs from it
      DINO: {recipe: ../caltech101_dino_sp.yaml, objectives: [dino]}
      DINO + SP: {recipe: ../caltech101_dino_sp.yaml}
      DINO, then SP: {recipe: ..., encoder: "run:DINO"}     # continues from the encoder of another run, of its seed
    evaluate:                      # flags of sp-hf evaluate
      tasks: [relative-geometry, knn]
      max_images: 2000
      dataset: org/other           # only to measure elsewhere than the runs were trained (--dataset is then theirs)
    evaluations:                   # each measured in one call a seed; differences are from its first run
      - [DINO, DINO + SP]
    measures: {relative-geometry/r2_position: R2 of position, knn/accuracy: kNN}      # columns: task/metric
    expect: {relative-geometry/r2_position: higher, knn/accuracy: {not_below: 0.01}}
    plots:                       # of an ablation: one option of SP on the horizontal axis
      - {title: local views, runs: {"2": two views, "4": DINO + SP}}
    findings: |                    # what a person makes of it; stands under the generated tables
      ...
    folder: caltech101             # under --output_dir, instead of one of the file's name: shares another sweep's runs

A run changes its recipe as a recipe changes the one that it ``extends`` (:func:`sp_hf.run.recipe.extended`): an
objective is a name, or a mapping that is merged into the recipe's entry of that name, so that ``{name:
spatial_prediction, views: {count: 8}}`` changes the number of views and nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..run.recipe import RecipeError, extended, read_recipe

FROM_RUN = "run:"
_NEEDED = {"seeds", "runs", "evaluate", "evaluations", "measures"}
_KINDS = {"runs": dict, "evaluate": dict, "evaluations": list, "measures": dict, "expect": dict, "plots": list}
_WORDS = {dict: "mapping", list: "list"}
_KEYS = _NEEDED | {"title", "introduction", "expect", "plots", "findings", "folder"}


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One line of ``runs``: a recipe whose options are resolved, for any seed."""

    name: str
    options: dict[str, Any]

    @property
    def slug(self) -> str:
        """The name as part of a path."""
        return slug(self.name)

    @property
    def starts_from(self) -> str | None:
        """The run whose encoder it goes on from."""
        encoder = str(self.options.get("encoder", ""))
        return encoder.removeprefix(FROM_RUN) if encoder.startswith(FROM_RUN) else None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep, checked. The fields are those of the file (see the module's docstring); ``name`` is the file's."""

    name: str
    title: str
    seeds: tuple[int, ...]
    runs: dict[str, PlannedRun]
    evaluate: dict[str, Any]
    evaluations: tuple[tuple[str, ...], ...]
    measures: dict[str, str]
    expect: dict[str, Any]
    plots: tuple[dict[str, Any], ...] = ()
    introduction: str = ""
    findings: str = ""
    folder: str = ""


def slug(name: str) -> str:
    """``"DINO + SP"`` to ``"dino-sp"``."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read and check a sweep's file and the recipes it names.

    Raises:
        RecipeError: anything that is missing, unknown or refers to nothing; the message names it.
    """
    path = Path(path)
    content = read_recipe(path)
    unknown = sorted(content.keys() - _KEYS)
    missing = sorted(_NEEDED - content.keys())
    if "runs" in missing and "objectives" in unknown:
        raise RecipeError(f"{path} is a recipe of one run, not a sweep: sp-hf pretrain --recipe {path}")
    if unknown or missing:
        raise RecipeError(f"{path}: {'unknown ' + ', '.join(unknown) if unknown else 'lacks ' + ', '.join(missing)}")
    for key, kind in _KINDS.items():
        if key in content and not isinstance(content[key], kind):
            raise RecipeError(f"{path}: {key} must be a {_WORDS[kind]}, not {content[key]!r}")
    for names in content["evaluations"]:
        if not isinstance(names, list) or not names:
            raise RecipeError(f"{path}: evaluations must be lists of runs, as in [[A, B]], not {names!r}")
    seeds = content["seeds"]
    if not isinstance(seeds, list) or not seeds or len({*seeds}) < len(seeds) or not all(type(s) is int for s in seeds):
        raise RecipeError(f"{path}: seeds must be a list of different whole numbers, not {seeds!r}")
    runs = {str(name): _planned(path, str(name), changes) for name, changes in content["runs"].items()}
    _check_distinct(path, runs)
    plan = Plan(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        seeds=tuple(seeds),
        runs=_in_order(path, runs),
        evaluate=dict(content["evaluate"]),
        evaluations=tuple(tuple(map(str, names)) for names in content["evaluations"]),
        measures={str(key): str(title) for key, title in content["measures"].items()},
        expect=dict(content.get("expect") or {}),
        plots=tuple(content.get("plots") or ()),
        introduction=str(content.get("introduction") or ""),
        findings=str(content.get("findings") or ""),
        folder=str(content.get("folder") or path.stem),
    )
    _check_references(path, plan)
    return plan


def _planned(path: Path, name: str, changes: Any) -> PlannedRun:
    if not isinstance(changes, dict) or "recipe" not in changes:
        raise RecipeError(f"{path}: run {name!r} must be a mapping with a recipe")
    changes = dict(changes)
    base = read_recipe(path.parent / str(changes.pop("recipe")))
    for reserved in ("seed", "output_dir", "resume", "resume_from_checkpoint"):
        if reserved in changes:
            raise RecipeError(f"{path}: run {name!r} sets {reserved}, which the sweep decides")
    try:
        return PlannedRun(name, extended(base, changes))
    except RecipeError as error:
        raise RecipeError(f"{path}: run {name!r}: {error}") from error


def _check_distinct(path: Path, runs: Mapping[str, PlannedRun]) -> None:
    by_slug: dict[str, str] = {}
    for name, run in runs.items():
        if not run.slug or run.slug in by_slug:
            raise RecipeError(f"{path}: the names {by_slug.get(run.slug, '')!r} and {name!r} would share a folder")
        by_slug[run.slug] = name


def _in_order(path: Path, runs: dict[str, PlannedRun]) -> dict[str, PlannedRun]:
    """Runs that others continue from come before them."""
    ordered: dict[str, PlannedRun] = {}
    waiting = dict(runs)
    while waiting:
        ready = [run for run in waiting.values() if run.starts_from is None or run.starts_from in ordered]
        if not ready:
            stuck = ", ".join(f"{run.name!r} from {run.starts_from!r}" for run in waiting.values())
            raise RecipeError(f"{path}: runs that start from no run there is, or from each other: {stuck}")
        for run in ready:
            ordered[run.name] = waiting.pop(run.name)
    return ordered


def _check_references(path: Path, plan: Plan) -> None:
    named = {name for names in plan.evaluations for name in names}
    named |= {str(name) for plot in plan.plots for name in plot.get("runs", {}).values()}
    unknown = sorted(named - plan.runs.keys())
    if unknown:
        raise RecipeError(f"{path}: no run is called {', '.join(map(repr, unknown))}; there are {', '.join(plan.runs)}")
    unmeasured = sorted(plan.runs.keys() - {name for names in plan.evaluations for name in names})
    if unmeasured:
        raise RecipeError(f"{path}: in no evaluation: {', '.join(unmeasured)}")
    firsts = [names[0] for names in plan.evaluations]
    if len(set(firsts)) < len(firsts):
        raise RecipeError(f"{path}: two evaluations start with the same run; put their runs into one")
    for key in plan.measures:
        if key.count("/") != 1:
            raise RecipeError(f"{path}: measures: {key!r} is not a task/metric, such as knn/accuracy")
    for key, wish in plan.expect.items():
        if key not in plan.measures:
            raise RecipeError(f"{path}: expect names {key}, which measures does not")
        if wish != "higher" and not (isinstance(wish, dict) and set(wish) == {"not_below"}):
            raise RecipeError(f"{path}: expect: {key} must be 'higher' or {{not_below: 0.01}}, not {wish!r}")
