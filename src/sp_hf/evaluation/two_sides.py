"""Facts of both sides that bear on every metric: duplicates, labels, balance, how they were divided.

A validation image that is on the training side, too, is recognised by memory; a class that most images have is guessed;
what has no label is not asked. All of it stands in the report, and what may mislead is said in a note, too.

Letters: n images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..data.canvas import UnreadableImage, image_digest
from .accuracy import known, majority_accuracy
from .features import ImageSample

if TYPE_CHECKING:
    from .data import EvaluationData

_IMBALANCE = 10  # times as many images of the commonest class as of the rarest


@dataclasses.dataclass(frozen=True)
class TwoSides:
    """Facts of both sides.

    Args:
        train, validation: ``description``, ``images``, ``labelled`` and, with labels, ``classes``; the validation side
            also ``duplicates`` and, with labels on both, ``majority_accuracy``: that of always answering the training
            side's commonest class.
        notes: sentences on what may mislead.
    """

    train: dict[str, Any]
    validation: dict[str, Any]
    notes: tuple[str, ...]


def describe_sides(data: EvaluationData) -> TwoSides:
    """Facts of the run's two sides (``data.two_sides`` has them); images are read, and not decoded."""
    train, validation = data.sides(data.source)
    facts, notes = [_facts(train), _facts(validation)], []
    if data.validation_of(data.source)[1]:
        notes.append(
            f"there is no validation split, so a fifth of the images, drawn by seed {data.seed}, is held out as one"
        )
    if validation.images is not data.sample(data.source, "validation").images:
        notes.append("the two sides number their classes differently; they are matched by name")
    shared = duplicates(image_digests(data, train), image_digests(data, validation))
    facts[1]["duplicates"] = int(shared.sum())
    if shared.any():
        share = f"{int(shared.sum())} of the {len(shared)} validation images ({100 * shared.mean():.1f} %)"
        notes.append(f"{share} are on the training side, too, byte for byte: a probe may know them by heart")
    for name, of_side in zip(("training", "validation"), facts, strict=True):
        notes += _label_notes(name, of_side)
    if all(of_side["labelled"] for of_side in facts):
        facts[1]["majority_accuracy"] = majority_accuracy(known(train.labels), known(validation.labels))
    return TwoSides(facts[0], facts[1], tuple(notes))


def _facts(sample: ImageSample) -> dict[str, Any]:
    facts: dict[str, Any] = {"description": sample.images.description, "images": len(sample.rows), "labelled": 0}
    if sample.labels is not None and (sample.labels >= 0).any():
        counts = torch.unique(sample.labels[sample.labels >= 0], return_counts=True)[1]
        facts["labelled"] = int(counts.sum())
        facts["classes"] = {"count": len(counts), "rarest": int(counts.min()), "commonest": int(counts.max())}
    return facts


def _label_notes(side: str, facts: dict[str, Any]) -> list[str]:
    if not facts["labelled"]:
        return []
    notes, classes = [], facts["classes"]
    if facts["labelled"] < facts["images"]:
        missing = facts["images"] - facts["labelled"]
        notes.append(f"{missing} of the {facts['images']} {side} images have no label and are left out of recognition")
    if classes["commonest"] >= _IMBALANCE * classes["rarest"]:
        notes.append(
            f"{side} classes are of very different sizes, {classes['rarest']} to {classes['commonest']} images: read"
            " mean_per_class_accuracy beside accuracy"
        )
    return notes


def image_digests(data: EvaluationData, sample: ImageSample) -> np.ndarray:
    """A digest of every image, uint64 [n], 0 for those that cannot be read; cached."""
    parts = None if sample.identity is None else {"digests of": sample.identity}

    def compute(_: Path | None) -> dict[str, np.ndarray]:
        column = sample.images.image_column
        rows = sample.rows if isinstance(sample.rows, list) else sample.rows.select_columns([column])
        digests = np.zeros(len(rows), np.uint64)
        for index, row in enumerate(tqdm(rows, desc="looking for duplicates", disable=not data.progress, leave=False)):
            try:
                digests[index] = image_digest(row[column])
            except UnreadableImage:
                continue  # named when it is decoded
        return {"digests": digests}

    return np.asarray(data.cache.get(parts, compute)["digests"])


def duplicates(train: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Which validation images are on the training side, too: bool [n], from uint64 digests, 0 for none."""
    return np.isin(validation, train) & (validation != 0)
