"""PartScenes as a task needs it: in another variant than the run's, no larger than it must be, with annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from ..data.datasets import EMBEDDED, is_embedded
from ..data.part_scenes.dataset import SPLITS
from ..errors import InputError
from .features import ImageSample
from .source import DataSource

if TYPE_CHECKING:
    from .samples import Samples

OOD_VARIANTS = ("new-textures", "new-backgrounds", "silhouettes", "jumbled")
"""Those that show what training images never do."""


def variant_of(
    source: DataSource,
    side: str,
    variant: str,
    most: int,
    label_column: str | None = None,
    difficulty: str | None = None,
) -> DataSource:
    """The run's PartScenes, its size and seed and scenes, in another variant; open its ``"train"`` side.

    Args:
        source: of a run on PartScenes.
        side: ``"train"`` or ``"validation"`` scenes.
        variant: one of PartScenes' variants.
        most: at most so many images are drawn.
        label_column: which labels; ``None``: found by type.
        difficulty: ``None``: the run's.
    """
    dataset, split = str(source.dataset), source.dataset_split or "train"
    if side == "validation":
        split = source.validation_dataset_split or "validation"
        if is_embedded(source.validation_dataset):
            dataset = str(source.validation_dataset)
    options = dict(parse_qsl(dataset.partition("?")[2]))
    available = int(options.get("num_images", SPLITS.get(split, most)))
    options |= {"variant": variant, "num_images": str(min(available, source.max_images or available, most))}
    options |= {} if difficulty is None else {"difficulty": difficulty}
    return DataSource(f"{EMBEDDED}?{urlencode(options)}", dataset_split=split, label_column=label_column)


def variant_of_run(source: DataSource) -> str:
    """The variant that the run's validation images are of."""
    dataset = str(source.validation_dataset or source.dataset)
    return dict(parse_qsl(dataset.partition("?")[2])).get("variant", "standard")


def annotated_scenes(
    data: Samples,
    side: str,
    variant: str | None,
    most: int,
    columns: Sequence[str],
    label_column: str | None = None,
    difficulty: str | None = None,
) -> tuple[ImageSample, ImageSample]:
    """The run's scenes in a variant, without annotations, as features are cached under, and the same rows with them.

    Args:
        data: of a run on PartScenes.
        side, most, label_column, difficulty: as for :func:`variant_of`.
        variant: ``None``: the run's.
        columns: of the annotations.
    """
    variant = variant_of_run(data.source) if variant is None else variant
    source = variant_of(data.source, side, variant, most, label_column, difficulty)
    return data.sample(source, "train"), data.sample(source, "train", columns)


def check_embedded(data: Samples, task: str, needs: str) -> None:
    """Raise InputError, with the flag that names other images, unless the run is on PartScenes."""
    if not data.source.embedded:
        flag = f"--{task.replace('-', '_')}_dataset"
        raise InputError(f"{task} needs {needs}: PartScenes, or name some with {flag}")


def images_elsewhere(
    data: Samples,
    most: int,
    datasets: Sequence[str],
    split: str | None,
    *,
    revision: str | None = None,
    with_variants: bool = True,
    label_column: str | None = None,
    variants_label_column: str | None = None,
) -> dict[str, ImageSample]:
    """Images unlike the training images, by name: PartScenes' variants, of a run on it, and other datasets.

    Args:
        data: of the run.
        most: at most so many of each.
        datasets: their validation sides.
        split, revision: of all of them; ``None``: found, and the newest.
        with_variants: with PartScenes' variants.
        label_column: of the datasets; ``None``: found by type.
        variants_label_column: of PartScenes' variants.
    """
    samples = {}
    if data.source.embedded and with_variants:
        for variant in OOD_VARIANTS:
            if variant != variant_of_run(data.source):
                source = variant_of(data.source, "validation", variant, most, variants_label_column)
                samples[variant] = data.sample(source, "train")
    for dataset in datasets:
        source = DataSource(
            validation_dataset=dataset,
            validation_dataset_split=split,
            validation_dataset_revision=revision,
            label_column=label_column,
            max_images=data.at_most(most),
        )
        name = Path(dataset.partition("?")[0]).stem
        samples[name if name not in samples else dataset] = data.sample(source, "validation")
    return samples
