"""The probes while a run goes: the tasks of ``sp-hf evaluate``, on few images, at the run's own view sizes."""

from __future__ import annotations

from collections.abc import Callable

from ..model.modeling import SPForPreTraining
from ..run.arguments import DataArguments, PretrainingArguments
from .data import EvaluationData
from .features import evaluating
from .model import EvaluatedModel, Preprocess
from .source import DataSource
from .task import Task
from .what.accuracy import LabelError
from .what.knn import KNN
from .where.relative_geometry.task import RelativeGeometry


def online_probe(
    model: SPForPreTraining, data_args: DataArguments, args: PretrainingArguments
) -> Callable[[], dict[str, float]]:
    """A function that probes the model's encoder as it is now and returns flat figures.

    kNN is left out where the labels do not allow it.

    Raises:
        DatasetLoadError: the dataset has no validation split.
    """
    sizes = [spec.size for spec in model.view_specs.values()]
    source = DataSource(
        dataset=data_args.dataset,
        config=data_args.dataset_config,
        split=data_args.dataset_split,
        revision=data_args.dataset_revision,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
        validation_dataset=data_args.validation_dataset,
        validation_split=data_args.validation_split,
        max_images=args.probe_images,
    )
    data = EvaluationData(source, batch_size=args.train_batch_size, keep_pixels=True)
    tasks: list[Task] = [RelativeGeometry(crop_size=min(sizes), images=None, mlp=False)]
    tasks[0].prepare(data)
    try:
        KNN().prepare(data)
        tasks.append(KNN())
    except LabelError:
        pass
    preprocess = Preprocess.squash(max(sizes))

    def probe() -> dict[str, float]:
        encoder = EvaluatedModel("encoder", model.encoder, preprocess)
        figures: dict[str, float] = {}
        with evaluating(model.encoder):
            for task in tasks:
                measures = task.run(encoder, data).measures
                named = {"knn_accuracy": measures["accuracy"]} if task.name == KNN.name else measures
                figures |= {name: measure.value for name, measure in named.items()}
        data.forget(encoder)
        return figures

    return probe
