"""The probes while a run goes: the same code as ``sp-hf probe``, on few images, at the run's own view sizes."""

from __future__ import annotations

from collections.abc import Callable

from ..data.datasets import load_images
from ..modeling_sp import SPForPreTraining
from ..training.arguments import DataArguments, PretrainingArguments
from .command import open_validation
from .probe import ProbeSettings, prepare_probe, probe


def online_probe(
    model: SPForPreTraining, data_args: DataArguments, args: PretrainingArguments
) -> Callable[[], dict[str, float]]:
    """A function that probes the model's encoder as it is now and returns flat figures. Reads its images at once.

    Raises:
        DatasetLoadError: the dataset has no validation split.
    """
    sizes = [spec.size for spec in model.view_specs.values()]
    settings = ProbeSettings(size=max(sizes), crop_size=min(sizes), max_images=args.probe_images)
    train = load_images(
        data_args.dataset,
        config=data_args.dataset_config,
        split=data_args.dataset_split,
        revision=data_args.dataset_revision,
        image_column=data_args.image_column,
    )
    validation = open_validation(data_args.validation_dataset or data_args.dataset, data_args.validation_split)
    data = prepare_probe(train, validation, settings)
    return lambda: probe(model.encoder, data, batch_size=args.train_batch_size).figures()
