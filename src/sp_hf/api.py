"""The three promises as functions: teach (:func:`pretrain`), measure (:func:`evaluate`), share (:func:`export`,
:func:`push`); and :func:`sweep`, all of it over seeds.

The command line is a thin skin over these: its flags are their arguments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .data.given_images import GivenImages
from .evaluation.evaluate import evaluate
from .evaluation.results import Metric, Results
from .hub.push_run import push
from .objectives import Objective, ObjectiveConfig
from .run.export import export
from .run.recipe import resolve_run
from .sweeps.sweep import SweepResult, sweep
from .training.pretrain import run_pretraining
from .training.result import PretrainingResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .encoders.encoder import Encoder

    AnyObjective = str | Mapping[str, Any] | ObjectiveConfig | Objective | type[Objective]

__all__ = [
    "Metric",
    "PretrainingResult",
    "Results",
    "SweepResult",
    "evaluate",
    "export",
    "pretrain",
    "push",
    "sweep",
]


def pretrain(
    encoder: str | os.PathLike[str] | PreTrainedModel | Encoder | None = None,
    objectives: AnyObjective | Sequence[AnyObjective] | None = None,
    dataset: Any = None,
    *,
    recipe: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    validation_dataset: Any = None,
    resume: bool | str | os.PathLike[str] | None = None,
    **training_arguments: Any,
) -> PretrainingResult:
    """Train an encoder without labels, to know *what* is in images and *where*; write a run folder.

    What is not given comes from the recipe, else from the defaults of ``sp-hf pretrain``.

    Args:
        encoder: preset (fresh weights), Hub id or folder; or a headless vision model of transformers or a
            ``sp_hf.Encoder``, a copy of which is trained. Default: ``"vit-small-16"``.
        objectives: names, ``"name=weight"``, entries such as ``{"name": "dino", "prototypes": 4096}``, an objective's
            options (``DINOConfig(...)``), or its class. A recipe's options of an objective that is only named are kept.
            Default: DINO and Spatial Prediction.
        dataset: images: a string as for :func:`sp_hf.load_images`; a ``datasets.Dataset``, ``IterableDataset`` (with
            ``max_steps``), or dict of them by split; a map-style torch dataset that yields PIL images, ``(image,
            label)`` or ``{"image": ..., "label": ...}``; or a list of images. Default: PartScenes.
        recipe: a YAML file, or the mapping that one holds.
        output_dir: the run folder. Default: ``runs/`` and the recipe's name.
        validation_dataset: of the online probes (``probe_steps``): as ``dataset``.
        resume: ``"auto"`` starts the run in ``output_dir``, goes on with it, finishes its export, or finds it done;
            ``True`` or ``"last"`` goes on from its newest whole checkpoint, a path from that one.
        training_arguments: any other option of ``sp-hf pretrain``, and so of transformers' ``TrainingArguments``:
            ``max_steps``, ``learning_rate``, ``bf16``, ``dataset_split``, ``canvas_size``, ...

    Returns:
        Where it is and how it ended. A run that Ctrl-C or SIGTERM stops has a checkpoint, and says so in
        ``stopped_by``.

    Raises:
        SpHfError: whatever can be mended (:mod:`sp_hf.errors`), before any training where that can be known. It is
            also a ValueError (options, recipe, dataset), TypeError (an object that is no encoder, objective or dataset
            of images), FileNotFoundError (no such encoder or checkpoint), FileExistsError (the run folder is a file, or
            holds another run and ``resume`` was not asked for), OSError (the Hub, the disk), ImportError (a tracker
            that is not installed) or FloatingPointError (the loss is no longer finite).

    Example:
        >>> import sp_hf
        >>> images = sp_hf.part_scenes("train", num_images=8, size=32).select_columns("image")  # a Dataset
        >>> where = {"name": "spatial_prediction", "views": {"count": 2, "size": 16, "area": [0.2, 0.8]}}
        >>> run = sp_hf.pretrain(
        ...     "vit-micro-8", [where], images, output_dir="runs/mine", image_size=16, canvas_size=32,
        ...     max_steps=2, per_device_train_batch_size=4, dataloader_num_workers=0, use_cpu=True,
        ... )
        >>> run.step, run.encoder.is_dir()
        (2, True)
    """
    options: dict[str, Any] = dict(training_arguments)
    if encoder is not None:
        options["encoder"] = os.fspath(encoder) if isinstance(encoder, os.PathLike) else encoder
    if objectives is not None:
        options["objectives"] = objectives
    for name, images in (("dataset", dataset), ("validation_dataset", validation_dataset)):
        if images is not None:
            is_named = isinstance(images, (str, os.PathLike))
            options[name] = os.fspath(images) if is_named else GivenImages.of(images)
    if output_dir is not None:
        options["output_dir"] = os.fspath(output_dir)
    if resume is not None and resume is not False:
        options["resume"] = "last" if resume is True else os.fspath(resume)
    if isinstance(recipe, os.PathLike):
        recipe = os.fspath(recipe)
    return run_pretraining(*resolve_run(options, recipe))
