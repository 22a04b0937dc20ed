"""PartScenes in another variant than the run's, and no larger than a task needs."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from ...data.datasets import EMBEDDED, is_embedded
from ...data.part_scenes.dataset import SPLITS
from ..source import DataSource

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
