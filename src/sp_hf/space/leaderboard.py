"""Results of many models as one table: of folders of this machine and of repositories of the Hub.

Read is what ``sp-hf evaluate`` writes and pushes (:mod:`sp_hf.hub.leaderboard`): ``results.json`` of an evaluation, and
of a model ``.eval_results/*.yaml`` and the model-index of its card.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..cards.hub_results import FOLDER
from ..cards.model_index import DatasetName
from ..cards.result_tables import spelled
from ..errors import InputError
from ..hub.leaderboard import Row, board, entry_rows, index_rows, read_rows, result_rows

MODELS = 20
"""Of the Hub, at once, at most."""
_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
_JSON_BYTES = 20 * 2**20


class LeaderboardError(InputError):
    """Results that cannot be asked for; the message is for the visitor."""


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """Where results are read.

    Args:
        folders: of evaluations (``results.json``) or of models, by the name to show of a model.
        hub: allow ids of the Hub.
    """

    folders: Sequence[tuple[str, Path]] = ()
    hub: bool = True

    def rows(self, models: Sequence[str] = ()) -> tuple[list[Row], list[str]]:
        """All rows, and a sentence for everything that could not be read.

        Args:
            models: of the Hub, beside the folders.

        Raises:
            LeaderboardError: what is no id, too many, or no Hub here.
        """
        rows: list[Row] = []
        problems: list[str] = []
        for name, folder in self.folders:
            try:
                rows += folder_rows(folder, name)
            except (InputError, OSError, ValueError, KeyError, TypeError) as error:
                problems.append(f"{name}: {type(error).__name__} in its results")
        if models:
            of_models, missing = read_rows(self._checked(models), token=False)  # type: ignore[arg-type]  # never the owner's
            rows += of_models
            problems += [f"{name}: {why}" for name, why in missing.items()]
        return rows, problems

    def _checked(self, models: Sequence[str]) -> list[str]:
        if not self.hub:
            raise LeaderboardError("There is no Hub here; models of folders are in the table.")
        wrong = next((name for name in models if not _ID.fullmatch(name) or ".." in name or "--" in name), None)
        if wrong is not None:
            raise LeaderboardError(f"“{wrong[:80]}” is not the id of a model: write owner/name, as on huggingface.co.")
        if len(models) > MODELS:
            raise LeaderboardError(f"{len(models)} models were named; at most {MODELS} are read at once.")
        return list(models)


def folder_rows(folder: Path, name: str) -> list[Row]:
    """Rows of a folder: an evaluation's models by their own names, a model by the given one.

    Raises:
        InputError, ValueError, OSError: a file in it is not what it should be.
    """
    results = folder / "results.json"
    if results.is_file():
        if results.stat().st_size > _JSON_BYTES:
            raise LeaderboardError(f"{results} has more than {_JSON_BYTES // 2**20} MB")
        return [_shown(row) for row in result_rows(json.loads(results.read_text(encoding="utf-8")))]
    rows: list[Row] = []
    for file in sorted(folder.glob(f"{FOLDER}/*.y*ml")):
        rows += entry_rows(file.read_text(encoding="utf-8"), name)
    card = folder / "README.md"
    return rows + (index_rows(card.read_text(encoding="utf-8"), name) if card.is_file() else [])


def _shown(row: Row) -> Row:
    """Without paths of this machine."""
    return dataclasses.replace(row, dataset=str(DatasetName.of(row.dataset)))


def datasets(rows: Iterable[Row]) -> list[str]:
    """What was measured on, the data of most rows first."""
    count: dict[str, int] = {}
    for row in rows:
        count[row.dataset] = count.get(row.dataset, 0) + 1
    return sorted(count, key=lambda name: (-count[name], name))


def as_table(rows: Iterable[Row], dataset: str | None) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table of one data set: a line a model, the best in the first column first."""
    cells = board(rows, dataset)
    columns = list(dict.fromkeys(key for row in cells.values() for key in row))
    columns.sort(key=lambda key: (-sum(key in row for row in cells.values()), key[0] not in _WHERE))
    first = columns[0] if columns else None
    best = {model: row[first].value for model, row in cells.items() if first in row}
    order = sorted(cells, key=lambda model: (model not in best, -best.get(model, 0.0)))
    head = ["Model", *(_title(task, metric) for task, metric in columns)]
    return head, [[model, *(_cell(cells[model].get(key)) for key in columns)] for model in order]


_WHERE = ("jigsaw", "relative-geometry")


def _title(task: str, metric: str | None) -> str:
    return task if metric is None else spelled(task, metric)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.low is None or row.high is None:
        return f"{row.value:.3g}"
    return f"{row.value:.3g} ± {max(row.high - row.value, row.value - row.low):.2g}"
