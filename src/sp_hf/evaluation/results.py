"""The results of an evaluation as an object: metrics with intervals, paired differences, tables, pictures."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NotFoundError, PackageError, UnknownNameError
from ..flags import did_you_mean
from .measure import Estimate
from .report import terminal_table, write_report
from .results_json import SCHEMA_VERSION
from .suite import TaskReport

if TYPE_CHECKING:
    import pandas


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number that was measured of one model.

    Args:
        task, kind, name: which: ``"knn"``, ``"what"``, ``"accuracy"``.
        model, role: of whom; the role is ``"model"``, or of a control ``"random"``, ``"pixels"`` or ``"cues"``.
        value, low, high: it and its 95 % interval; a fraction also where ``percent`` says that it is shown
            times 100.
        n: number of images.
        percent, higher_is_better: how to read it.
        chance: what guessing gets, where that is known.
        difference: from the reference model, paired over images; ``None`` of the reference itself.
        interval: of which kind: ``"wilson"`` of a proportion, else ``"bootstrap"`` over images.
        refits: of the probe, to halves of the training images, that the interval covers.
        warning: why the interval is not to be trusted.

    Example:
        >>> from sp_hf import Metric
        >>> facts = {"n": 100, "percent": True, "higher_is_better": True, "chance": 0.1, "difference": None}
        >>> Metric("knn", "what", "accuracy", "mine", "model", value=0.4, low=0.3, high=0.5, **facts).value
        0.4
    """

    task: str
    kind: str
    name: str
    model: str
    role: str
    value: float
    low: float
    high: float
    n: int
    percent: bool
    higher_is_better: bool
    chance: float | None
    difference: Estimate | None
    interval: str = "bootstrap"
    refits: int = 0
    warning: str | None = None


_FIELDS = {field.name for field in dataclasses.fields(Metric)}


class Results:
    """Results of :func:`sp_hf.evaluate`. ``print(results)`` shows the table.

    Args:
        data: what ``results.json`` holds (its schema: :mod:`sp_hf.evaluation.results_json`).
        reports: of the tasks, from which pictures are drawn.
        folder: where they were drawn, of results that were loaded.

    Example:
        >>> import sp_hf
        >>> images = {"dataset": "part-scenes?size=32&num_images=24", "size": 32}
        >>> results = sp_hf.evaluate("vit-micro-8", tasks="knn", **images, num_workers=0, no_cache=True)
        >>> results.tasks, results.reference
        (['knn'], 'vit-micro-8')
        >>> results.difference("knn", "accuracy", "raw pixels").low <= 1
        True
        >>> [metric.name for metric in results if metric.model == "raw pixels"]
        ['accuracy', 'mean_per_class_accuracy']
        >>> folder = results.save("knn")
        >>> str(sp_hf.Results.load(folder)) == str(results)
        True
    """

    def __init__(
        self, data: Mapping[str, Any], reports: Sequence[TaskReport] = (), folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.data = dict(data)
        self._reports, self._folder = list(reports), None if folder is None else Path(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Results:
        """Results that were saved.

        Args:
            folder: what ``output_dir`` or :meth:`save` named, or its ``results.json``.

        Raises:
            FileNotFoundError: there are none.
            ValueError: of another schema.
        """
        file = Path(folder)
        file = file / "results.json" if file.suffix != ".json" else file
        if not file.is_file():
            raise NotFoundError(f"no results at {file}: name the output_dir of an evaluation")
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.get("schema_version") != SCHEMA_VERSION:
            version = data.get("schema_version")
            raise InputError(f"{file} has schema_version {version!r}; this version reads {SCHEMA_VERSION}")
        return cls(data, folder=file.parent)

    @property
    def models(self) -> list[str]:
        """Names of the models that have a result, controls first."""
        measured = {name for task in self.data["tasks"].values() for name in task["results"]}
        return [model["name"] for model in self.data["models"] if model["name"] in measured]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return list(self.data["tasks"])

    @property
    def reference(self) -> str:
        """The model that differences are taken from."""
        return self.data["reference"]

    def __iter__(self) -> Iterator[Metric]:
        """Every metric of every model."""
        roles = {model["name"]: model["role"] for model in self.data["models"]}
        for name, task in self.data["tasks"].items():
            for model, result in task["results"].items():
                differences = task["differences"].get(model, {})
                for key, measure in result["measures"].items():
                    difference = Estimate(**differences[key]) if key in differences else None
                    fields = {field: value for field, value in measure.items() if field in _FIELDS}
                    yield Metric(name, task["kind"], key, model, roles[model], difference=difference, **fields)

    def metric(self, task: str, name: str, model: str) -> Metric:
        """One metric of one model, such as ``metric("knn", "accuracy", "DINO + SP")``.

        Raises:
            KeyError: it was not measured; names what was.
        """
        _check_is_one_of(task, self.tasks, "task")
        candidates = [metric for metric in self if metric.task == task]
        skipped = self.data["tasks"][task]["skipped"]
        if model in skipped:
            raise UnknownNameError(f"{model!r} has no result of {task}: {skipped[model]}")
        _check_is_one_of(model, [metric.model for metric in candidates], f"model with a result of {task}")
        candidates = [metric for metric in candidates if metric.model == model]
        _check_is_one_of(name, [metric.name for metric in candidates], f"metric of {task}")
        return next(metric for metric in candidates if metric.name == name)

    def difference(self, task: str, name: str, model: str) -> Estimate:
        """``model`` minus :attr:`reference`, paired over images.

        Raises:
            KeyError: as :meth:`metric`; or the two are not comparable, or one and the same.
        """
        difference = self.metric(task, name, model).difference
        if difference is None:
            raise UnknownNameError(
                f"{model!r} has no difference of {task}/{name} from the reference {self.reference!r}"
            )
        return difference

    def to_pandas(self) -> pandas.DataFrame:
        """A row a metric of a model: the fields of :class:`Metric`, the difference as three columns.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise PackageError("Results.to_pandas needs pandas: pip install pandas") from error
        rows = []
        for metric in self:
            row = {field.name: getattr(metric, field.name) for field in dataclasses.fields(metric)}
            difference = row.pop("difference")
            for end in ("value", "low", "high"):
                column = "difference" if end == "value" else f"difference_{end}"
                row[column] = None if difference is None else getattr(difference, end)
            rows.append(row)
        return pandas.DataFrame(rows)

    def to_json(self) -> str:
        """The text of ``results.json``."""
        return json.dumps(self.data, indent=2, default=str) + "\n"

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``results.json``, the report (``.md``, ``.tex``, ``.csv``) and the pictures; returns the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for report in self._reports:
            report.draw(folder)
            if report.pictures:
                pictures = [{"path": picture.path.name, "caption": picture.caption} for picture in report.pictures]
                self.data["tasks"][report.task.name]["pictures"] = pictures
        if self._folder is not None and self._folder.resolve() != folder.resolve():
            for task in self.data["tasks"].values():
                for picture in task["pictures"]:
                    shutil.copyfile(self._folder / picture["path"], folder / picture["path"])
        write_report(self.data, folder)
        return folder

    def __str__(self) -> str:
        return terminal_table(self.data)

    def __repr__(self) -> str:
        return f"<Results: {', '.join(self.tasks)} of {', '.join(self.models)}>"


def _check_is_one_of(name: str, known: Iterable[str], what: str) -> None:
    known = list(dict.fromkeys(known))
    if name not in known:
        raise UnknownNameError(f"no {what} is called {name!r}{did_you_mean(name, known)} There are: {', '.join(known)}")
