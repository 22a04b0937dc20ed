"""What the Hub holds of many models' results, as rows: for a leaderboard.

Of each model both places are read: ``.eval_results/*.yaml`` (:mod:`sp_hf.cards.hub_results`) and the model-index of its
card (:mod:`sp_hf.cards.model_index`). Local results, of a ``results.json``, become rows of the same kind::

    rows, problems = read_rows(["org/a", "org/b"])
    for model, cells in board(rows).items(): ...
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from huggingface_hub import HfApi

from ..cards.front_matter import read_front_matter
from ..cards.hub_results import FOLDER, interval_of, read_entries
from ..errors import InputError
from .failures import PushError
from .published_card import text_of
from .push import Destination

Source = Literal["eval_results", "model-index", "results.json"]
_NAME = re.compile(r"(?P<task>[a-z][a-z0-9-]*): (?P<metric>.+)")  # of a metric in a model-index of ours


@dataclasses.dataclass(frozen=True)
class Row:
    """One value that a model's repository, or a ``results.json``, holds.

    Args:
        model: its id.
        task: as the source calls it: ``"jigsaw-v1"`` of a benchmark, else the task's name.
        metric: ``None`` where the source does not say.
        value: as it is shown there: of ``.eval_results`` in per cent where the task is, else a fraction.
        dataset: that it was measured on: id of a benchmark or of a dataset.
        source: where it was found.
        low, high: 95 % interval, where it is known.
        date: ISO 8601, where it is known.
        verified: the entry carries a signature of the Hub's; nothing here checks it.
    """

    model: str
    task: str
    metric: str | None
    value: float
    dataset: str
    source: Source
    low: float | None = None
    high: float | None = None
    date: str | None = None
    verified: bool = False


def read_rows(models: Sequence[str], *, token: str | None = None) -> tuple[list[Row], dict[str, str]]:
    """The rows of many models on the Hub, and what could not be read.

    Args:
        models: ``owner/name`` each.
        token: for private ones; ``None``: the one that is logged in.

    Returns:
        Rows, in the order of the models; and by model, or by model and file, why something is missing.
    """
    api = HfApi(token=token)
    rows: list[Row] = []
    problems: dict[str, str] = {}
    for model in dict.fromkeys(models):
        target = Destination(api, model, "")
        try:
            files = target.attempt(functools.partial(api.list_repo_files, model), f"listing {model}")
        except PushError as error:
            problems[model] = str(error)
            continue
        for path in sorted(files):
            if path == "README.md" or re.fullmatch(rf"{re.escape(FOLDER)}/[^/]+\.ya?ml", path):
                try:
                    text = text_of(target, path)
                    rows += index_rows(text, model) if path == "README.md" else entry_rows(text, model)
                except (InputError, PushError) as error:
                    problems[f"{model}/{path}"] = str(error)
    return rows, problems


def entry_rows(text: str, model: str) -> list[Row]:
    """Rows of one file of ``.eval_results``; entries without a number are left out.

    Raises:
        InputError: no list of entries.
    """
    rows = []
    for entry in read_entries(text):
        dataset, value = entry.get("dataset"), _number(entry.get("value"))
        if not isinstance(dataset, Mapping) or value is None or not dataset.get("id"):
            continue
        metric, low, high = interval_of(str(entry.get("notes") or "")) or (None, None, None)
        rows.append(
            Row(
                model=model,
                task=str(dataset.get("task_id") or "default"),
                metric=metric,
                value=value,
                dataset=str(dataset["id"]),
                source="eval_results",
                low=low,
                high=high,
                date=None if entry.get("date") is None else str(entry["date"]),
                verified=bool(entry.get("verifyToken")),
            )
        )
    return rows


def index_rows(card: str, model: str) -> list[Row]:
    """Rows of the model-index of a card: the entries that ``sp-hf`` wrote, by the names of their metrics.

    Raises:
        InputError: metadata that cannot be read.
    """
    index = read_front_matter(card).get("model-index")
    rows = []
    for group in [g for m in _dicts(index) for g in _dicts(m.get("results"))]:
        dataset = next(iter(_dicts([group.get("dataset")])), {})
        for metric in _dicts(group.get("metrics")):
            name, value = _NAME.fullmatch(str(metric.get("name") or "")), _number(metric.get("value"))
            if name is not None and value is not None:
                on = str(dataset.get("name") or dataset.get("type") or "")
                rows.append(Row(model, name["task"], str(metric.get("type")), value, on, "model-index"))
    return rows


def result_rows(results: Mapping[str, Any]) -> list[Row]:
    """Rows of what a ``results.json`` holds: the headline metrics of its models, controls too, as fractions."""
    rows = []
    for name, task in results["tasks"].items():
        for model, result in task["results"].items():
            own = (result.get("details") or {}).get("data") or {}
            on = own.get("validation") or results["data"]["validation"]["description"]
            for key in task["headline"]:
                if key in result["measures"]:
                    measure = result["measures"][key]
                    value, low, high = measure["value"], measure["low"], measure["high"]
                    rows.append(Row(model, name, key, value, on, "results.json", low, high, results.get("created")))
    return rows


def board(rows: Iterable[Row], dataset: str | None = None) -> dict[str, dict[tuple[str, str | None], Row]]:
    """Rows as a table, by model and by (task, metric).

    Of a value that is there twice, the entry of a benchmark is taken, or else the newest.

    Args:
        rows: of :func:`read_rows` and others.
        dataset: only those measured on it, as metrics of different data are not comparable; ``None``: all.
    """
    table: dict[str, dict[tuple[str, str | None], Row]] = {}
    for row in rows:
        if dataset is not None and row.dataset != dataset:
            continue
        cells = table.setdefault(row.model, {})
        key = (row.task, row.metric)
        if key not in cells or _rank(row) >= _rank(cells[key]):
            cells[key] = row
    return table


def _rank(row: Row) -> tuple[bool, str]:
    return row.source == "eval_results", row.date or ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
