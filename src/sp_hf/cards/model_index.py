"""The model-index of a card: what the Hub shows of a model's results, and what huggingface_hub makes of it.

A result is one (task type, data set, configuration, split, revision, metric type, metric name). huggingface_hub groups
results by the first five alone whenever it writes a card, and gives all of a group the task name, data set name and
arguments of its first: what tells kNN from a linear probe must therefore stand in the metric's own name, and what tells
two samples of PartScenes apart in the configuration. Names here are functions of that identity, so that it survives any
number of round trips; entries of others, also those that huggingface_hub cannot read, stay as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..errors import InputError

_TASK = "image-feature-extraction"  # of results that do not say
_HUB = re.compile(r"Hub dataset (?P<type>\S+)(?: \((?P<config>.+?)\))?(?: at (?P<revision>\S+))?")
_LOCAL = re.compile(r"(?:folder|files?|URL) (?P<path>.+)")


@dataclasses.dataclass(frozen=True)
class DatasetName:
    """A data set as the Hub tells it from others.

    Args:
        type: its id on the Hub; of others, the name of their file or folder alone, or what they are.
        config: configuration; of PartScenes its options.
        split, revision: of it.
    """

    type: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    @classmethod
    def of(cls, description: str) -> DatasetName:
        """From a description of :class:`~sp_hf.data.datasets.LoadedImages`."""
        words, _, last = description.rpartition(", split ")
        words, split = (words, last) if words else (description, None)
        if match := _HUB.fullmatch(words):
            return cls(split=split, **match.groupdict())
        if match := _LOCAL.fullmatch(words):  # no path of the author's, and no signature of a URL
            path = match["path"].partition("?")[0] if "://" in match["path"] else match["path"]
            return cls(path.rstrip("/").rsplit("/", 1)[-1], split=split)
        name, _, options = words.partition("?")
        return cls(name, options or None, split)

    def __str__(self) -> str:
        name = f"{self.type}?{self.config}" if "=" in (self.config or "") else self.type
        config = f" ({self.config})" if self.config and name == self.type else ""
        revision = f" at {self.revision}" if self.revision else ""
        return f"{name}{config}{revision}" + (f", split {self.split}" if self.split else "")


def measured_on(result: Mapping[str, Any], task: str, side: str = "validation") -> DatasetName:
    """The data of one task, which may be its own, in one ``results.json``."""
    details = result["tasks"][task]["results"].get(result["this"], {}).get("details") or {}
    own = details.get("data")
    return DatasetName.of(own[side] if own else result["data"][side]["description"])


def eval_results(results: Iterable[Mapping[str, Any]]) -> list[EvalResult]:
    """The headline metrics of every task; of one measured twice, the last.

    Args:
        results: of :func:`~sp_hf.cards.results.read_results`.
    """
    entries = {}
    for result in results:
        for name, task in result["tasks"].items():
            measures = task["results"].get(result["this"], {}).get("measures", {})
            for key in task["headline"]:
                if key not in measures or not math.isfinite(measures[key]["value"]):
                    continue
                hub_task = task.get("hub_task", _TASK)
                entry = _eval_result(name, hub_task, key, measures[key]["value"], measured_on(result, name))
                key_of_entry = (*entry.unique_identifier, entry.metric_type, entry.metric_name)
                entries[key_of_entry] = entry
    return list(entries.values())


def _eval_result(task: str, task_type: str, key: str, value: float, dataset: DatasetName) -> EvalResult:
    return EvalResult(
        task_type=task_type,
        task_name=task_type.replace("-", " ").capitalize(),
        dataset_type=dataset.type,
        dataset_name=str(dataset),
        dataset_config=dataset.config,
        dataset_split=dataset.split,
        dataset_revision=dataset.revision,
        metric_type=key,
        metric_name=f"{task}: {key.replace('_', ' ')}",
        metric_value=round(value, 4),
    )


def merge_model_index(index: list[Any] | None, new: list[EvalResult], name: str) -> list[Any]:
    """A model-index with these results, each once: in the place of the same, or at the end.

    Args:
        index: what a card holds; left as it was. Where it is about several models, the one called ``name``, or else the
            first, is the one in question.
        new: of :func:`eval_results`.
        name: of the model, for an index that names none.

    Raises:
        InputError: ``index`` is not a list of models with lists of results.
    """
    merged = copy.deepcopy(index) if index else [{"name": name, "results": []}]
    if not isinstance(merged, list) or not all(isinstance(model, dict) for model in merged):
        raise InputError("its model-index is not a list of models with their results")
    model = next((model for model in merged if model.get("name") == name), merged[0])
    if not isinstance(model.setdefault("results", []), list):
        raise InputError("the results of its model-index are not a list")
    if not new:
        return merged
    groups = eval_results_to_model_index(name, new)[0]["results"]
    waiting = {_identity(group, metric): (_head(group), metric) for group in groups for metric in group["metrics"]}
    ours, renewed = frozenset(waiting), []
    for group in model["results"]:
        metrics = _renewed_metrics(group, ours, waiting)
        if metrics is None:
            renewed.append(group)
        elif metrics:
            renewed.append({**group, "metrics": metrics})
    for head, metric in waiting.values():
        _group_of(head, renewed).append(metric)
    model["results"] = renewed
    return merged


def _renewed_metrics(
    group: Any, ours: frozenset[tuple[str, ...]], waiting: dict[tuple[str, ...], tuple[dict, dict]]
) -> list[Any] | None:
    """Those of a group without what is measured anew; in a group of our own the new value takes the old one's place.

    ``None``: nothing in it is measured anew.
    """
    old = _metrics(group)
    identities = [_identity(group, metric) for metric in old]
    if not ours.intersection(identities):
        return None
    kept = []
    for identity, metric in zip(identities, old, strict=True):
        if identity not in ours:
            kept.append(metric)
        elif identity in waiting and waiting[identity][0] == _head(group):
            kept.append(waiting.pop(identity)[1])
    return kept


def _group_of(head: dict[str, Any], groups: list[Any]) -> list[Any]:
    """The metrics of the group with this task and data set, which is made at the end if need be."""
    group_there = next((group for group in groups if _metrics(group) and _head(group) == head), None)
    if group_there is None:
        group_there = {**head, "metrics": []}
        groups.append(group_there)
    return group_there["metrics"]


def _metrics(group: Any) -> list[Any]:
    metrics = group.get("metrics") if isinstance(group, dict) else None
    return metrics if isinstance(metrics, list) else []


def _head(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "metrics"}


def _identity(group: Mapping[str, Any], metric: Any) -> tuple[str, ...]:
    """What makes a result this one; of an entry in another form, nothing, which is none of ours."""
    task, dataset = group.get("task"), group.get("dataset")
    if not isinstance(task, dict) or not isinstance(dataset, dict) or not isinstance(metric, dict):
        return ()
    fields = [task.get("type"), *(dataset.get(key) for key in ("type", "config", "split", "revision"))]
    return tuple("" if field is None else str(field) for field in (*fields, metric.get("type"), metric.get("name")))
