"""``sp_hf.evaluate``: measures models side by side, with their floors, on tasks of what and where."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data.datasets import EMBEDDED
from ..errors import InputError
from ..preconditions import check_folder, open_device
from .cache import FeatureCache, default_cache_dir
from .data import EvaluationData
from .model import EvaluatedModel, open_model
from .options import EvaluationOptions
from .probes.refits import REFITS
from .report import write_report
from .results import Results
from .results_json import results_dict
from .suite import TaskReport, run_suite, with_controls
from .task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..encoders.encoder import Encoder

    Model = str | os.PathLike[str] | PreTrainedModel | Encoder


def default_num_workers() -> int:
    """Processes that decode images, unless another number is given."""
    return min(8, (os.cpu_count() or 1) // 2)


def evaluate(
    models: Model | Sequence[Model] | Mapping[str, Model],
    *,
    tasks: str | Task | Sequence[str | Task] | None = None,
    dataset: Any = EMBEDDED,
    dataset_config: str | None = None,
    dataset_split: str | None = None,
    dataset_revision: str | None = None,
    validation_dataset: Any = None,
    validation_dataset_config: str | None = None,
    validation_dataset_split: str | None = None,
    validation_dataset_revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    max_images: int | None = None,
    size: int | None = None,
    seed: int = 0,
    refits: int = REFITS,
    batch_size: int = 64,
    num_workers: int | None = None,
    device: torch.device | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    no_cache: bool = False,
    output_dir: str | os.PathLike[str] | None = None,
    command: str = "",
    **task_options: Any,
) -> Results:
    """Measure what vision models know of *what* is in an image and *where*, beside raw pixels and untrained encoders.

    Args:
        models: one or several, or a dict of them by the names that tables shall have: Hub id, folder, run (its folder
            or what :func:`sp_hf.pretrain` returned), preset (untrained), a headless vision model of transformers, or a
            ``sp_hf.Encoder``. Differences are taken from the first. Models are left as they are.
        tasks: names (docs/evaluation.md lists them), ``"all"`` for all that images and models allow, or instances;
            ``None``: relative-geometry, knn and linear, as far as images and models allow.
        dataset: training side, to which probes are fitted: a string as for :func:`sp_hf.load_images`, or a
            ``datasets.Dataset``, ``IterableDataset`` (with ``max_images``), a dict of them by split, a map-style torch
            dataset, or a list.
        dataset_config, dataset_split, dataset_revision: of a dataset that is named.
        validation_dataset: on which everything is measured; ``None``: ``dataset``'s split validation, val or test, or
            else a fifth of its images that is held out.
        validation_dataset_config, validation_dataset_split, validation_dataset_revision: alike.
        image_column, label_column: of both; ``None``: found by type.
        max_images: of each side, chosen at random; ``None`` or 0 for all. No more are drawn of PartScenes.
        size: side in px of whole images; ``None``: each model's own.
        seed: of every random choice.
        refits: how often cheap probes are fitted again, to half of the training images each, so that intervals cover
            the choice of training images; 0: never.
        batch_size: images encoded at once.
        num_workers: processes that decode; ``None``: one for two cores, at most 8.
        device: ``None``: cuda where there is one.
        cache_dir: of features; ``None``: in the Hugging Face home.
        no_cache: compute all features anew and keep none.
        output_dir: for results.json, report.md and pictures, written after each task.
        command: how this was called, for the report.
        task_options: ``<task>_<option>``, such as ``knn_k=10``: the flags of ``sp-hf evaluate``.

    Raises:
        SpHfError: whatever can be mended (:mod:`sp_hf.errors`). It is also a ValueError (data, options or models with
            which a task cannot work; nothing has been computed then), TypeError (an unknown option, or an object that
            is no model or dataset of images), FileNotFoundError (no such model), FileExistsError (``output_dir`` is a
            file), OSError (the Hub) or RuntimeError (no such device).

    Example:
        >>> import sp_hf
        >>> results = sp_hf.evaluate(
        ...     {"untrained": "vit-micro-8"}, tasks="knn", dataset="part-scenes?size=32&num_images=24", size=32,
        ...     num_workers=0, no_cache=True,
        ... )
        >>> results.models
        ['raw pixels', 'untrained']
        >>> accuracy = results.metric("knn", "accuracy", "untrained")
        >>> accuracy.low <= accuracy.value <= accuracy.high, accuracy.n
        (True, 24)
    """
    if output_dir is not None:
        check_folder("--output_dir", output_dir)
    if cache_dir is not None and not no_cache:
        check_folder("--cache_dir", cache_dir)
    options = EvaluationOptions.of(
        tasks,
        seed=seed,
        size=size,
        refits=refits,
        dataset=dataset,
        dataset_config=dataset_config,
        dataset_split=dataset_split,
        dataset_revision=dataset_revision,
        validation_dataset=validation_dataset,
        validation_dataset_config=validation_dataset_config,
        validation_dataset_split=validation_dataset_split,
        validation_dataset_revision=validation_dataset_revision,
        image_column=image_column,
        label_column=label_column,
        max_images=max_images,
        **task_options,
    )
    data = EvaluationData(
        options.source,
        seed=seed,
        cache=FeatureCache(None if no_cache else cache_dir or default_cache_dir()),
        batch_size=batch_size,
        num_workers=default_num_workers() if num_workers is None else num_workers,
        progress=sys.stderr.isatty(),
        refits=options.refits,
    )
    device = open_device(device)
    all_models = with_controls(_open(models, options, device), seed, options.tasks)
    return measure(all_models, options, data, None if output_dir is None else Path(output_dir), command)


def measure(
    models: Sequence[EvaluatedModel],
    options: EvaluationOptions,
    data: EvaluationData,
    folder: Path | None,
    command: str = "",
) -> Results:
    """All tasks on models that are open, with their controls; an interrupted evaluation keeps what it has."""
    done: list[TaskReport] = []

    def results(reports: Sequence[TaskReport]) -> dict[str, Any]:
        return results_dict(reports, models, data, command, options.record())

    def save(report: TaskReport) -> None:
        done.append(report)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            report.draw(folder)
            write_report(results(done), folder)

    reports = run_suite(models, options.tasks, data, leave_out=options.leave_out, after=save)
    outcome = Results(results(reports), reports)
    if folder is not None:
        write_report(outcome.data, folder)  # with what was left out
    return outcome


def _open(models: Any, options: EvaluationOptions, device: torch.device) -> list[EvaluatedModel]:
    """Models by name, in their order; of one that is named twice, the first.

    Raises:
        ValueError: there is none.
    """
    settings: dict[str, Any] = {"size": options.size, "device": device, "seed": options.seed}
    if isinstance(models, Mapping):
        opened = []
        for name, model in models.items():
            opened.append(open_model(model, **settings))
            opened[-1].name = str(name)
    else:
        several = models if isinstance(models, (list, tuple)) else [models]
        named = dict.fromkeys(os.fspath(m) if isinstance(m, os.PathLike) else m for m in several)
        opened = [open_model(model, **settings) for model in named]
    if not opened:
        raise InputError("there is no model to evaluate: name at least one")
    return opened
