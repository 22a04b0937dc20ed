"""The flags that name a dataset, the same in every command."""

from __future__ import annotations

from typing import Any

DATA_FLAGS = {
    "dataset": "training side: Hub id, image folder, parquet/arrow glob, WebDataset tars, or part-scenes (embedded)",
    "dataset_config": "configuration of a Hub dataset",
    "dataset_split": "its split; default: train",
    "dataset_revision": "branch, tag or commit of a Hub dataset",
    "validation_dataset": "validation side; default: --dataset",
    "validation_dataset_config": "its configuration; default: --dataset_config where it is the same dataset",
    "validation_dataset_split": "its split; default: validation, val or test, or a fifth of the training split",
    "validation_dataset_revision": "its revision; default: --dataset_revision where it is the same dataset",
}


def add_data_flags(group: Any) -> None:
    """Add :data:`DATA_FLAGS` to a parser, or a group of one."""
    for name, text in DATA_FLAGS.items():
        group.add_argument(f"--{name}", help=text)
