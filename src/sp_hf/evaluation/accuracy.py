"""Labels with which recognition can be measured, and what is reported of predicted classes.

Letters: n images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError
from .measure import Measure, with_refits

_SHOWN = 5


class LabelError(DataError):
    """Labels with which recognition cannot be measured."""


def known(labels: Tensor | None) -> Tensor:
    """The labels, which must be there.

    Raises:
        LabelError: there are none.
    """
    if labels is None:
        raise LabelError("recognition needs labels, but these images have none: name their column with label_column")
    return labels


def check_labels(train: Tensor | None, validation: Tensor | None, names: Sequence[str] | None = None) -> None:
    """Whether recognition can be measured with these labels (int64, -1 for none).

    Raises:
        LabelError: a split without labels, a single class, or classes that the training images lack.
    """
    for split, labels in (("training", train), ("validation", validation)):
        if labels is None or not (labels >= 0).any():
            raise LabelError(
                f"recognition needs labels, but the {split} images have none: name their column with label_column,"
                " or choose other tasks"
            )
    taught, asked = (torch.unique(labels[labels >= 0]) for labels in (known(train), known(validation)))
    if len(taught) < 2:
        raise LabelError(
            f"recognition needs two classes or more; all training images are of class {_name(taught[0], names)}"
        )
    missing = asked[~torch.isin(asked, taught)]
    if len(missing):
        shown = ", ".join(_name(label, names) for label in missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
        raise LabelError(
            f"{len(missing)} of the {len(asked)} classes of the validation images have no training image ({shown}):"
            " use splits with the same classes, or a larger max_images"
        )


def _name(label: Tensor, names: Sequence[str] | None) -> str:
    index = int(label)
    return f"{index} ({names[index]})" if names is not None and index < len(names) else str(index)


def accuracy_measures(predicted: Tensor, labels: Tensor, refitted: Iterable[Tensor] = ()) -> dict[str, Measure]:
    """Top-1 accuracy, and its mean over the classes that occur (robust to how many images each has).

    Args:
        predicted, labels: int64 [n] classes.
        refitted: int64 [n] each, predicted by probes that were fitted to halves of the training images.
    """
    return with_refits(_accuracies(predicted, labels), [_accuracies(other, labels) for other in refitted])


def _accuracies(predicted: Tensor, labels: Tensor) -> dict[str, Measure]:
    classes, index = torch.unique(labels, return_inverse=True)
    correct = (predicted == labels).double()
    of_class = F.one_hot(index, len(classes)).double()  # [n, C]
    chance = 1 / len(classes)
    return {
        "accuracy": Measure.of(correct, percent=True, chance=chance),
        "mean_per_class_accuracy": Measure(of_class * correct[:, None], of_class, percent=True, chance=chance),
    }


def majority_accuracy(train: Tensor, validation: Tensor) -> float:
    """Accuracy on the validation labels of always answering the training labels' commonest class.

    Args:
        train, validation: int64, -1 for none; one label each at least.
    """
    commonest = train[train >= 0].mode().values
    return float((validation[validation >= 0] == commonest).double().mean())
