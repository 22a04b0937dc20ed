"""The datasets that the field quotes, by name: where they are on the Hub, their columns, and the tasks for them.

A preset is nothing but options of :func:`sp_hf.evaluate`, which ``sp-hf evaluate --preset NAME`` fills in; those that
are given besides count instead. A dataset that is named besides, such as a copy on disk, has the same columns and
splits::

    sp-hf evaluate MODEL --preset ade20k
    sp-hf evaluate MODEL --preset imagenet-1k --dataset /data/imagenet --max_images 50000
    sp_hf.evaluate(model, **preset_options("ade20k", max_images=1000))
"""

from __future__ import annotations

from typing import Any

from ..errors import UnknownNameError
from ..flags import did_you_mean

_CONVERTED = "refs/convert/parquet"  # the Hub's own, of datasets whose files are read by a script
_IMAGENET = {
    "dataset": "ILSVRC/imagenet-1k",
    "dataset_split": "train",
    "validation_dataset_split": "validation",
    "image_column": "image",
    "label_column": "label",
}

PRESETS: dict[str, dict[str, Any]] = {
    "imagenet-1k": {**_IMAGENET, "tasks": ["knn", "linear"]},
    "imagenet-c": {**_IMAGENET, "tasks": ["robustness"], "robustness_images": 1000},
    "imagenet-r": {
        **_IMAGENET,
        "tasks": ["robustness"],
        "robustness_ood_dataset": ["axiong/imagenet-r"],
        "robustness_ood_split": "test",
        "robustness_ood_label_column": "class_name",
        "robustness_ood_images": 30_000,
    },
    "imagenet-sketch": {
        **_IMAGENET,
        "tasks": ["robustness"],
        "robustness_ood_dataset": ["songweig/imagenet_sketch"],
        "robustness_ood_revision": _CONVERTED,
        "robustness_ood_split": "train",
        "robustness_ood_label_column": "label",
        "robustness_ood_images": 50_889,
    },
    "ade20k": {
        "dataset": "zhoubolei/scene_parse_150",
        "dataset_config": "scene_parsing",
        "dataset_revision": _CONVERTED,
        "dataset_split": "train",
        "validation_dataset_split": "validation",
        "image_column": "image",
        "tasks": ["segmentation", "in-context-segmentation"],
        "segmentation_target_column": "annotation",
        "segmentation_void": [0],  # what is none of the 150 classes
        "segmentation_images": 0,
        "in_context_segmentation_target_column": "annotation",
        "in_context_segmentation_void": [0],
        "in_context_segmentation_images": 0,
    },
    "voc": {
        "dataset": "nateraw/pascal-voc-2012",
        "dataset_split": "train",
        "image_column": "image",
        "tasks": ["segmentation", "in-context-segmentation"],
        "segmentation_target_column": "mask",
        "segmentation_colours": "voc",
        "segmentation_images": 0,
        "in_context_segmentation_target_column": "mask",
        "in_context_segmentation_colours": "voc",
        "in_context_segmentation_images": 0,
    },
    "nyuv2": {
        "dataset": "sayakpaul/nyu_depth_v2",
        "dataset_revision": _CONVERTED,
        "dataset_split": "train",
        "validation_dataset_split": "validation",
        "image_column": "image",
        "tasks": ["depth"],
        "depth_target_column": "depth_map",
        "depth_max": 10.0,
        "depth_images": 10_000,
    },
    "coco": {
        "dataset": "detection-datasets/coco",
        "dataset_split": "train",
        "validation_dataset_split": "val",
        "image_column": "image",
        "tasks": ["detection"],
        "detection_box_format": "xyxy",
        "detection_images": 20_000,
    },
}
"""Options of :func:`sp_hf.evaluate` by the name of a preset."""


def preset_options(preset: str, **given: Any) -> dict[str, Any]:
    """The options of :func:`sp_hf.evaluate` that a preset stands for.

    Args:
        preset: one of :data:`PRESETS`.
        given: options that count instead. With another ``dataset`` the preset's configuration and revision, which are
            the Hub's, are left out.

    Raises:
        KeyError: no such preset.
    """
    if preset not in PRESETS:
        hint = did_you_mean(preset, PRESETS)
        raise UnknownNameError(f"there is no preset {preset!r}{hint or ''}; there are: {', '.join(PRESETS)}")
    options = dict(PRESETS[preset])
    for named in ("dataset", "robustness_ood_dataset"):
        if named in given:
            prefix = named.removesuffix("_dataset") if named != "dataset" else named
            for name in (f"{prefix}_config", f"{prefix}_revision"):
                options.pop(name, None)
    return options | given
