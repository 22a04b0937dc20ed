"""A model's results in the Hub's own format: ``.eval_results/*.yaml``, from which a benchmark's leaderboard is made.

A file is a list of entries; each names the benchmark (a dataset with an ``eval.yaml``), one of its tasks, and the value
(https://huggingface.co/docs/hub/eval-results). The format has no place for an interval: ours stands in the notes, from
which :func:`interval_of` reads it again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from ..errors import InputError
from ..evaluation.tasks import TASKS
from ..evaluation.where_bench import BENCH_TASKS, deviations, task_id

FOLDER = ".eval_results"
_NOTES = re.compile(r"(?P<metric>\w+), 95 % interval (?P<low>-?[\d.]+) to (?P<high>-?[\d.]+)")


def file_of(benchmark: str) -> str:
    """Path of a benchmark's results in a model's repository: ``.eval_results/where-bench.yaml``."""
    return f"{FOLDER}/{benchmark.rsplit('/', 1)[-1]}.yaml"


def bench_entries(
    results: Iterable[Mapping[str, Any]], benchmark: str, url: str | None = None
) -> tuple[list[EvalResultEntry], list[str]]:
    """The results that are where-bench's, and why others are not.

    Args:
        results: of :func:`~sp_hf.cards.results.read_results`.
        benchmark: id of the dataset on the Hub.
        url: of the page that shows where they come from.

    Returns:
        Entries, of each task the first headline metric, in per cent where it is shown so; and a sentence for each task
        that was measured otherwise. Of a task measured twice, the last.
    """
    made: dict[str, EvalResultEntry] = {}
    reasons = []
    for result in results:
        for name, task in result["tasks"].items():
            measures = task["results"].get(result["this"], {}).get("measures", {})
            key = next((key for key in task["headline"] if key in measures), None)
            if key is None or not math.isfinite(measures[key]["value"]):
                continue
            otherwise = deviations(result, name)
            if otherwise:
                reasons.append(f"{name}: {'; '.join(otherwise)}")
                continue
            made[name] = _entry(task_id(TASKS[name]), key, measures[key], result, benchmark, url)
    return [made[name] for name in BENCH_TASKS if name in made], reasons


def _entry(
    task: str, key: str, measure: Mapping[str, Any], result: Mapping[str, Any], benchmark: str, url: str | None
) -> EvalResultEntry:
    value, low, high = (round(measure[end] * (100 if measure["percent"] else 1), 4) for end in ("value", "low", "high"))
    return EvalResultEntry(
        dataset_id=benchmark,
        task_id=task,
        value=value,
        date=result["created"],
        source_url=url,
        source_name=None if url is None else "Model card",
        notes=f"{key}, 95 % interval {low} to {high}, sp-hf {result['sp_hf_version']}",
    )


def interval_of(notes: str | None) -> tuple[str, float, float] | None:
    """Metric and 95 % interval from the notes of an entry of ours; ``None`` of others."""
    match = _NOTES.match(notes or "")
    return (match["metric"], float(match["low"]), float(match["high"])) if match else None


def merge_entries(text: str, new: Sequence[EvalResultEntry]) -> str:
    """The text of a file with these entries, each in the place of the same benchmark's and task's, or at the end.

    Args:
        text: the file's text; "" where there is none.
        new: at least one.

    Raises:
        InputError: what is there is no list of entries, and could not be kept.
    """
    merged = read_entries(text)
    waiting = {(e["dataset"]["id"], e["dataset"]["task_id"]): e for e in eval_result_entries_to_yaml(list(new))}
    for index, entry in enumerate(merged):
        dataset = entry.get("dataset") or {}
        merged[index] = waiting.pop((dataset.get("id"), dataset.get("task_id")), entry)
    return yaml_dump([*merged, *waiting.values()], sort_keys=False)


def read_entries(text: str) -> list[dict[str, Any]]:
    """The entries of a file, as they are.

    Raises:
        InputError: not YAML, or no list of them.
    """
    try:
        entries = yaml.safe_load(text) or []
    except yaml.YAMLError as error:
        raise InputError("it is not YAML") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("it is not a list of results")
    return entries
