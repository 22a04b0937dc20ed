"""Probes of the encoder while it is trained: the tasks of ``sp-hf evaluate``, on few images and small views."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..encoders.encoder import Encoder
from .accuracy import LabelError
from .data import EvaluationData
from .features import evaluating
from .model import EvaluatedModel, Preprocess
from .source import DataSource
from .task import Task
from .what.knn import KNN
from .where.relative_geometry.task import RelativeGeometry


def online_probe(
    encoder: Encoder, source: DataSource, sizes: Sequence[int], batch_size: int
) -> Callable[[], dict[str, float]]:
    """A function that probes the encoder as it is then and returns flat metrics.

    kNN is left out where the labels do not allow it.

    Args:
        encoder: being trained; left in the mode it is in.
        source: of the images.
        sizes: of the run's views, in px: crops have the smallest, whole images the largest.
        batch_size: images encoded at once.

    Raises:
        DatasetLoadError: the dataset cannot be loaded, or is a stream without a validation split.
    """
    data = EvaluationData(source, batch_size=batch_size, keep_pixels=True)
    tasks: list[Task] = [RelativeGeometry(crop_size=min(sizes), images=None, mlp=False, cues=False)]
    tasks[0].prepare(data)
    try:
        KNN().prepare(data)
        tasks.append(KNN())
    except LabelError:
        pass
    preprocess = Preprocess.squash(max(sizes))

    def probe() -> dict[str, float]:
        model = EvaluatedModel("encoder", encoder, preprocess)
        metrics: dict[str, float] = {}
        with evaluating(encoder):
            for task in tasks:
                measures = task.run(model, data).measures
                named = {"knn_accuracy": measures["accuracy"]} if task.name == KNN.name else measures
                metrics |= {name: measure.value for name, measure in named.items()}
        data.forget(model)
        return metrics

    return probe
