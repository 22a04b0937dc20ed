"""Labels that a dataset has as texts, numbered."""

from __future__ import annotations

import datasets


def is_text(feature: object) -> bool:
    """Whether a column holds texts."""
    return isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string")


def with_class_labels(dataset: datasets.Dataset, column: str) -> datasets.Dataset:
    """The dataset with a column of texts as ``ClassLabel``, numbered in alphabetical order; images are not read.

    A row without a text has no label.
    """
    texts = dataset.select_columns([column])
    names = sorted(text for text in texts.unique(column) if text is not None)
    numbers = {text: number for number, text in enumerate(names)}
    labels = texts.map(
        lambda batch: {column: [numbers.get(text) for text in batch[column]]},
        batched=True,
        features=datasets.Features({column: datasets.ClassLabel(names=names)}),
        desc="labels",
    )
    return datasets.concatenate_datasets([dataset.remove_columns([column]), labels], axis=1)
